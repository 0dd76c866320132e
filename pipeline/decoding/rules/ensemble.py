"""Several models as one: the mean of their probabilities of the next token, which is what an
ensemble of runs usually is.

The mean is of probabilities and not of their logarithms: the mixture is normalised again, and a
model that is sure that a token cannot come is outvoted instead of having a veto."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pipeline.contracts import Decodable, Prompt
from pipeline.decoding.rules.penalty import require_attention

States = tuple[Any, ...]


class Ensemble:
    """A Decodable made of models that share their vocabularies; its state is theirs."""

    def __init__(self, models: Sequence[Decodable[Any]]) -> None:
        assert models
        self.models = tuple(models)

    def begin(self, prompt: Prompt) -> tuple[States, Tensor]:
        states, firsts = zip(*(model.begin(prompt) for model in self.models), strict=True)
        assert all(torch.equal(first_B, firsts[0]) for first_B in firsts)
        return states, firsts[0]

    def step(self, state: States, last_B: Tensor) -> tuple[Tensor, States]:
        steps = [model.step(own, last_B) for model, own in zip(self.models, state, strict=True)]
        log_probs, states = zip(*steps, strict=True)
        return mean(log_probs), states

    def step_and_look(self, state: States, last_B: Tensor) -> tuple[Tensor, States, Tensor]:
        """The weights are the models' mean; UserError if one of them cannot say where it looks."""
        steps = [
            require_attention(model).step_and_look(own, last_B)
            for model, own in zip(self.models, state, strict=True)
        ]
        log_probs, states, weights = zip(*steps, strict=True)
        return mean(log_probs), states, torch.stack(weights).mean(0)

    def reorder(self, state: States, rows_B: Tensor) -> States:
        return tuple(
            model.reorder(own, rows_B) for model, own in zip(self.models, state, strict=True)
        )


def mean(log_probs: Sequence[Tensor]) -> Tensor:
    """The logarithm of the mean of the probabilities whose logarithms are given."""
    return torch.stack(tuple(log_probs)).logsumexp(0) - math.log(len(log_probs))
