"""An n-gram model interpolated with the trained language model of another run, the run's `start`.

The n-gram model is fitted to the training text, the weight of each model to the validation text
(Jelinek and Mercer 1980). The other model stays as it is.

Shapes: T tokens of a stream, M = 2 models."""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor, nn

from pipeline.contracts import Prompt, Sizes
from pipeline.nn import ngram_model
from pipeline.nn.mixture import Mixture, States, fit_weights, mix
from pipeline.nn.ngram_model import NgramModel
from pipeline.nn.stream_likelihood import stream_log_probs
from pipeline.text.stream import stream

COMPONENTS = ("recurrent_lm", "transformer_lm", "cache_lm")


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`model:` of a run: the settings of the n-gram model (family ngram_lm)."""

    ngram: ngram_model.Config


class Model(nn.Module):
    """p(next token) = weight p of the n-gram model + (1 - weight) p of the component."""

    def __init__(self, config: Config, sizes: Sizes, component: nn.Module) -> None:
        super().__init__()
        self.ngram = NgramModel(config.ngram, sizes)
        self.component: Any = component
        # Of the n-gram model and of the component.
        self.register_buffer("weights", torch.full((2,), 0.5))

    def fit(self, train: pa.Table, valid: pa.Table, seed: int) -> dict[str, float]:
        """Fit the n-gram model, then the weights.

        Returns the losses on `valid` in nats per token of the mixture and of both models, and the
        weight of the n-gram model."""
        ngram_loss = self.ngram.fit(train, valid, seed)["loss"]
        valid_T = self._on_device(torch.from_numpy(stream(valid)))
        log_probs_MT = torch.stack(self._log_probs(valid_T))
        self.weights = torch.from_numpy(fit_weights(log_probs_MT.numpy())).float()
        return {
            "loss": float(-mix(log_probs_MT.unbind(), self.mixture.weights).mean()),
            "ngram_loss": ngram_loss,
            "component_loss": float(-log_probs_MT[1].mean()),
            "ngram_weight": self.mixture.weights[0],
        }

    @property
    def mixture(self) -> Mixture:
        """Both models with their weights."""
        return Mixture([self.ngram, self.component], self.weights.double().tolist())

    def log_probs(self, ids_T: Tensor) -> Tensor:
        """log P of each token of a stream but the first, given all before it: T - 1, float64."""
        return mix(self._log_probs(ids_T), self.mixture.weights).to(ids_T.device)

    def begin(self, prompt: Prompt) -> tuple[States, Tensor]:
        return self.mixture.begin(prompt)

    def step(self, state: States, last_B: Tensor) -> tuple[Tensor, States]:
        return self.mixture.step(state, last_B)

    def reorder(self, state: States, rows_B: Tensor) -> States:
        return self.mixture.reorder(state, rows_B)

    def _log_probs(self, ids_T: Tensor) -> list[Tensor]:
        """Both models' log-probabilities of a stream's tokens, on the CPU."""
        return [stream_log_probs(model, ids_T) for model in (self.ngram, self.component)]

    def _on_device(self, ids_T: Tensor) -> Tensor:
        return ids_T.to(next(self.component.parameters()).device)
