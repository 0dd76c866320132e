"""Sampling: draw each token from the model's distribution, changed by `temperature`, `top_k` and
`top_p`.

Sentence i of a call takes the i-th row of uniform numbers from the generator, one number per
position. A text therefore depends neither on when the others end, nor on how the sentences are
divided into calls that share a generator.

Legend: B sentences, R rows in the batch, T positions, V vocabulary."""

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
    """`search:` of a run, method sampling.

    Applied in this order, to the tokens that the constraints allow:
    - `temperature` divides the logits.
    - `top_k`: draw from the k likeliest tokens only (Fan et al. 2018); null for all.
    - `top_p`: draw from the fewest likeliest tokens that hold a share p of the probability (nucleus
      sampling, Holtzman et al. 2020); null for all.

    `max_length`: tokens produced at most, <eos> counted."""

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
    """One hypothesis per sentence, drawn with the CPU generator `generator`.

    Its log_prob is the model's, at temperature 1 and with all tokens.
    """
    # All numbers are drawn before the search: see the module's docstring.
    uniform_BT = torch.rand(
        (len(prompt.length_B), config.max_length), generator=generator, dtype=torch.float64
    ).numpy()

    def draw(log_probs_RV: Tensor, sentence_R: Ints, position: int) -> Tensor:
        probs_RV, ids_RV = distribution(log_probs_RV.cpu().double().numpy(), config)
        id_R = inverse_transform(probs_RV, ids_RV, uniform_BT[sentence_R, position])
        return torch.from_numpy(id_R).to(log_probs_RV.device)

    model = constrain(model, prompt, config.constraints, config.max_length)
    return generate(model, prompt, config.max_length, draw)


def distribution(log_probs_RV: Floats, config: Config) -> tuple[Floats, Ints]:
    """Compute the distribution to draw from: probabilities in descending order, and their ids.

    Each row sums to 1. Of equally likely tokens the lower id comes first.
    """
    # Temperature. The largest log-probability is subtracted, so that exp does not underflow.
    ids_RV = np.argsort(-log_probs_RV, axis=1, kind="stable")
    ordered_RV = np.take_along_axis(log_probs_RV, ids_RV, 1) / config.temperature
    # A row without an allowed token becomes NaN; `generate` refuses it.
    with np.errstate(invalid="ignore"):
        probs_RV = np.exp(ordered_RV - ordered_RV[:, :1])

    if config.top_k is not None:
        probs_RV[:, config.top_k :] = 0.0
    probs_RV /= probs_RV.sum(1, keepdims=True)

    # A token stays if the likelier ones hold less than p: the last one kept reaches p.
    if config.top_p is not None:
        before_RV = probs_RV.cumsum(1) - probs_RV
        probs_RV[before_RV >= config.top_p] = 0.0
        probs_RV /= probs_RV.sum(1, keepdims=True)
    return probs_RV, ids_RV


def inverse_transform(probs_RV: Floats, ids_RV: Ints, uniform_R: Floats) -> Ints:
    """Draw one id per row: the one at which the cumulative sum passes the row's uniform number."""
    cumulated_RV = probs_RV.cumsum(1)
    # Times the last sum, which rounding keeps from being exactly 1.
    place_R = (cumulated_RV <= uniform_R[:, None] * cumulated_RV[:, -1:]).sum(1)
    return np.take_along_axis(ids_RV, place_R[:, None], 1)[:, 0]
