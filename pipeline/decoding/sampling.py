"""Sampling: each token drawn from the model's distribution, sharpened by `temperature` and cut by
`top_k` and `top_p`.

Sentence i of a call takes the i-th row of uniform numbers from the generator, one number per
position, so a text depends neither on when the others end nor on how the sentences are divided into
calls that share a generator."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from pipeline.contracts import Decodable, Prompt
from pipeline.core.errors import at_least_one, refuse
from pipeline.decoding import Floats, Hypothesis, Ints, generate
from pipeline.decoding.rules.constraints import Constraints, check_lengths, constrain


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`top_k`: draw among the k likeliest tokens only; `top_p`: among the fewest likeliest that
    hold a share p of the probability (Holtzman et al. 2020, nucleus sampling); null for all tokens.
    The temperature divides the logits and is applied first, then top_k, then top_p, all to what the
    constraints allow. `max_length`: tokens produced at most, <eos> counted."""

    method: Literal["sampling"]
    temperature: float
    top_k: int | None
    top_p: float | None
    max_length: int
    constraints: Constraints

    def __post_init__(self) -> None:
        check_lengths(self.constraints, self.max_length)
        if not self.temperature > 0:
            raise refuse(
                "temperature",
                self.temperature,
                "a number above 0",
                "For the likeliest tokens use method: greedy.",
            )
        if self.top_k is not None:
            at_least_one(top_k=self.top_k)
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise refuse("top_p", self.top_p, "a share above 0 and up to 1, or null")


def search(
    model: Decodable[Any], prompt: Prompt, config: Config, generator: torch.Generator
) -> list[list[Hypothesis]]:
    """One hypothesis per sentence, drawn with the CPU generator `generator`; its log_prob is the
    model's own, at temperature 1 and uncut."""
    uniform_BT = torch.rand(
        (len(prompt.length_B), config.max_length), generator=generator, dtype=torch.float64
    ).numpy()

    def draw(log_probs_RV: Tensor, sentence_R: Ints, position: int) -> Tensor:
        probs_RV, ids_RV = distribution(log_probs_RV.cpu().double().numpy(), config)
        return torch.from_numpy(
            inverse_transform(probs_RV, ids_RV, uniform_BT[sentence_R, position])
        ).to(log_probs_RV.device)

    return generate(
        constrain(model, prompt, config.constraints, config.max_length),
        prompt,
        config.max_length,
        draw,
    )


def distribution(log_probs_RV: Floats, config: Config) -> tuple[Floats, Ints]:
    """Compute the distribution to draw from: probabilities in descending order (each row sums to
    1), and whose ids they are.

    Of equally likely tokens the lower id counts as likelier.
    """
    ids_RV = np.argsort(-log_probs_RV, axis=1, kind="stable")
    ordered_RV = np.take_along_axis(log_probs_RV, ids_RV, 1) / config.temperature
    with np.errstate(
        invalid="ignore"
    ):  # a row of which nothing is allowed, which `generate` refuses
        probs_RV = np.exp(ordered_RV - ordered_RV[:, :1])
    if config.top_k is not None:
        probs_RV[:, config.top_k :] = 0.0
    probs_RV /= probs_RV.sum(1, keepdims=True)
    if config.top_p is not None:
        before_RV = probs_RV.cumsum(1) - probs_RV
        probs_RV[before_RV >= config.top_p] = 0.0
        probs_RV /= probs_RV.sum(1, keepdims=True)
    return probs_RV, ids_RV


def inverse_transform(probs_RV: Floats, ids_RV: Ints, uniform_R: Floats) -> Ints:
    """The id at which the running sum of each row passes its uniform number (inverse transform
    sampling)."""
    cumulated_RV = probs_RV.cumsum(1)
    place_R = (cumulated_RV <= uniform_R[:, None] * cumulated_RV[:, -1:]).sum(1)
    return np.take_along_axis(ids_RV, place_R[:, None], 1)[:, 0]
