"""N-gram models interpolated with one another and with the trained language model of another run,
its `init_from`; of n-gram models only if that is scratch.

The n-gram models are fitted to the training text, the models' weights to the validation text
(Jelinek and Mercer 1980). The other run's model stays as it is.

Shapes: T tokens of a stream, M models."""

import re
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor, nn

from pipeline.contracts import Prompt, Sizes
from pipeline.core.errors import refuse
from pipeline.nn import ngram_model
from pipeline.nn.mixture import Mixture, States, fit_weights, mix
from pipeline.nn.ngram_model import NgramModel
from pipeline.nn.stream_likelihood import stream_log_probs
from pipeline.text.stream import stream

COMPONENTS = ("recurrent_lm", "transformer_lm", "cache_lm")
COMPONENT_OPTIONAL = True
COMPONENT = "component"  # name of the other run's model


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`model:` of a run: the settings of each n-gram model (those of the family ngram_lm), by a
    name of small letters, digits and _."""

    ngrams: dict[str, ngram_model.Config]

    def __post_init__(self) -> None:
        if not self.ngrams:
            raise refuse("ngrams", "nothing", "at least one n-gram model")
        for name in self.ngrams:
            if not re.fullmatch("[a-z0-9_]+", name) or name == COMPONENT:
                expected = f"names of small letters, digits and _, other than {COMPONENT}"
                raise refuse("ngrams", name, expected, "Rename the block.")


class Model(nn.Module):
    """p(next token), the weighted mean of the models' probabilities."""

    weights: Tensor

    def __init__(self, config: Config, sizes: Sizes, component: nn.Module | None = None) -> None:
        super().__init__()
        # Sorted: a saved configuration does not keep the order of its keys.
        self.names = sorted(config.ngrams)
        self.ngrams = nn.ModuleList(NgramModel(config.ngrams[name], sizes) for name in self.names)
        self.component = component
        if component is not None:
            self.names.append(COMPONENT)
        self.register_buffer("weights", torch.full((len(self.names),), 1 / len(self.names)))

    def fit(self, train: pa.Table, valid: pa.Table, seed: int) -> dict[str, float]:
        """Fit the n-gram models, then the weights.

        Returns the losses on `valid` in nats per token of the mixture and of each model, and the
        weights."""
        for ngram in self.models[: len(self.ngrams)]:
            ngram.fit(train, valid, seed)
        valid_T = torch.from_numpy(stream(valid)).to(self.weights.device)
        log_probs = self._log_probs(valid_T)
        weights_M = fit_weights(torch.stack(log_probs).numpy())
        self.weights.copy_(torch.from_numpy(weights_M))

        losses = {
            f"{name}_loss": float(-log_prob_T.mean())
            for name, log_prob_T in zip(self.names, log_probs, strict=True)
        }
        weights = dict(zip(self.names, weights_M.tolist(), strict=True))
        return {
            "loss": float(-mix(log_probs, self.mixture.weights).mean()),
            **losses,
            **{f"{name}_weight": weight for name, weight in weights.items()},
        }

    @property
    def models(self) -> list[Any]:
        """The models in the order of their names."""
        return [*self.ngrams, *([] if self.component is None else [self.component])]

    @property
    def mixture(self) -> Mixture:
        """The models with their weights."""
        return Mixture(self.models, self.weights.double().tolist())

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
        """Each model's log-probabilities of a stream's tokens, on the CPU."""
        return [stream_log_probs(model, ids_T) for model in self.models]
