"""Ensemble of models: the mean of their probabilities of the next token.

The mean is of probabilities, not of their logarithms. The mixture is therefore normalised, and a
model that gives a token probability 0 is outvoted instead of having a veto."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pipeline.contracts import Decodable, Prompt
from pipeline.decoding.rules.penalty import require_attention

States = tuple[Any, ...]


class Ensemble:
    """A Decodable made of models that share their vocabularies; its state is a tuple of theirs."""

    def __init__(self, models: Sequence[Decodable[Any]]) -> None:
        assert models
        self.models = tuple(models)

    def begin(self, prompt: Prompt) -> tuple[States, Tensor]:
        states, firsts = zip(*(model.begin(prompt) for model in self.models), strict=True)
        # every model begins with the same id, usually BOS
        assert all(torch.equal(first_B, firsts[0]) for first_B in firsts)
        return states, firsts[0]

    def step(self, state: States, last_B: Tensor) -> tuple[Tensor, States]:
        steps = [
            model.step(model_state, last_B)
            for model, model_state in zip(self.models, state, strict=True)
        ]
        log_probs, states = zip(*steps, strict=True)
        return mean(log_probs), states

    def step_with_attention(self, state: States, last_B: Tensor) -> tuple[Tensor, States, Tensor]:
        """The attention weights are the models' mean; UserError if a model has no attention."""
        steps = [
            require_attention(model).step_with_attention(model_state, last_B)
            for model, model_state in zip(self.models, state, strict=True)
        ]
        log_probs, states, weights = zip(*steps, strict=True)
        return mean(log_probs), states, torch.stack(weights).mean(0)

    def reorder(self, state: States, rows_B: Tensor) -> States:
        return tuple(
            model.reorder(model_state, rows_B)
            for model, model_state in zip(self.models, state, strict=True)
        )


def mean(log_probs: Sequence[Tensor]) -> Tensor:
    """The logarithm of the mean probability, from the logarithms of the probabilities."""
    # log(mean p) = logsumexp(log p) - log(number of models), without underflow
    return torch.stack(tuple(log_probs)).logsumexp(0) - math.log(len(log_probs))
