"""Greedy search (d2l section 10.8.1): take the likeliest token until <eos> or `max_length`.

Of equally likely tokens the lowest id is taken."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from pipeline.contracts import Decodable, Prompt
from pipeline.decoding import Hypothesis, Ints, generate
from pipeline.decoding.rules.constraints import Constraints, check_lengths, constrain


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`search:` of a run, method greedy. `max_length`: tokens produced at most, <eos> counted."""

    method: Literal["greedy"]
    max_length: int
    constraints: Constraints

    def __post_init__(self) -> None:
        check_lengths(self.constraints, self.max_length)


def search(
    model: Decodable[Any], prompt: Prompt, config: Config, generator: torch.Generator
) -> list[list[Hypothesis]]:
    """One hypothesis per sentence; `generator` is not used."""
    model = constrain(model, prompt, config.constraints, config.max_length)
    return generate(model, prompt, config.max_length, _argmax)


def _argmax(log_probs_RV: Tensor, sentence_R: Ints, position: int) -> Tensor:
    return log_probs_RV.argmax(1)
