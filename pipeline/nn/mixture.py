"""Mixtures of language models: the weighted mean of their probabilities of the next token.

The mean is of probabilities, not of their logarithms. The mixture is therefore normalised, and a
model that gives a token probability 0 is outvoted instead of having a veto.

Shapes: M models, T tokens, B batch, V vocabulary."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.contracts import Decodable, Prompt

States = tuple[Any, ...]
_ROUNDS = 1000  # of EM, at most
_ENOUGH = 1e-9  # nats per token: a round that gains less is the last
DIGITS = 4  # of a fitted weight, so that it depends on no rounding error


class Mixture:
    """A Decodable made of models that share their vocabularies; its state is a tuple of theirs.

    `weights`: positive, with sum 1; None for equal weights.
    """

    def __init__(
        self, models: Sequence[Decodable[Any]], weights: Sequence[float] | None = None
    ) -> None:
        assert models
        self.models = tuple(models)
        count = len(self.models)
        self.weights = tuple(weights or [1 / count] * count)
        assert len(self.weights) == count

    def begin(self, prompt: Prompt) -> tuple[States, Tensor]:
        """Read the prompt with every model."""
        states, firsts = zip(*(model.begin(prompt) for model in self.models), strict=True)
        # every model begins with the same id, usually BOS
        assert all(torch.equal(first_B, firsts[0]) for first_B in firsts)
        return states, firsts[0]

    def step(self, state: States, last_B: Tensor) -> tuple[Tensor, States]:
        """Feed one id per row to every model; mix their log_probs_BV."""
        steps = [
            model.step(model_state, last_B)
            for model, model_state in zip(self.models, state, strict=True)
        ]
        log_probs, states = zip(*steps, strict=True)
        return mix(log_probs, self.weights), states

    def reorder(self, state: States, rows_B: Tensor) -> States:
        """Select rows of every model's state."""
        return tuple(
            model.reorder(model_state, rows_B)
            for model, model_state in zip(self.models, state, strict=True)
        )


def mix(log_probs: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The logarithm of the weighted mean probability, from the logarithms of the probabilities."""
    # log(sum w p) = logsumexp(log w + log p), without underflow
    shifted = [
        log_prob + (math.log(weight) if weight else -math.inf)
        for log_prob, weight in zip(log_probs, weights, strict=True)
    ]
    return torch.stack(shifted).logsumexp(0)


def fit_weights(log_probs_MT: NDArray[np.float64]) -> NDArray[np.float64]:
    """The weights with the largest likelihood of T tokens to which the models give these
    log-probabilities, by expectation maximization (Jelinek and Mercer 1980).

    The likelihood is concave in the weights, so they are the best ones, but for rounding to
    DIGITS."""
    models = len(log_probs_MT)
    weights_M = np.full(models, 1 / models)
    # Relative to the best model of each token: the ratios of the others do not overflow.
    best_T = log_probs_MT.max(0)
    ratio_MT = np.exp(log_probs_MT - best_T)

    before = -np.inf
    for _ in range(_ROUNDS):
        mixed_T = weights_M @ ratio_MT
        after = float(np.log(mixed_T).mean())
        if after - before < _ENOUGH:
            break
        before = after
        # Expectation: each model's share in each token. Maximization: its mean share.
        weights_M = weights_M * (ratio_MT / mixed_T).mean(1)

    weights_M = weights_M.round(DIGITS)
    largest = weights_M.argmax()
    weights_M[largest] += 1 - weights_M.sum()
    return weights_M
