"""An n-gram language model as a module: its tables are buffers, fitted in one pass over the text.

Shapes: B batch, C = order - 1 tokens of context, T tokens of a stream, V vocabulary."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from pipeline.contracts import BOS, PAD, Prompt, Sizes
from pipeline.core.errors import refuse
from pipeline.nn import smoothing
from pipeline.nn.adaptive import adaptive_evidence
from pipeline.nn.ngrams import ABSENT, Counts, Ints, Ngrams, continuation_counts, counts, ranges
from pipeline.nn.smoothing import Contexts, Evidence, Floats, Smoothing
from pipeline.text.stream import stream

MOST_ORDERS = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """Settings of an n-gram model.

    - `order`: tokens of an n-gram; a token depends on the order - 1 tokens before it.
    - `smoothing`: see `pipeline.nn.smoothing`.
    - `discounts`: `estimated` from counts (for Witten-Bell, k = 1), or chosen on `validation`.
    - `across_rows`: whether the context reaches into the rows before; else it begins with the EOS
      before the row.
    - `adaptive`: whether the tokens of a text that is scored count as soon as they have been
      predicted (`pipeline.nn.adaptive`). A search never counts what it has written.
    """

    order: int
    smoothing: Smoothing
    discounts: Literal["estimated", "validation"]
    across_rows: bool
    adaptive: bool

    def __post_init__(self) -> None:
        if not 1 <= self.order <= MOST_ORDERS:
            raise refuse("order", self.order, f"from 1 to {MOST_ORDERS}")


@dataclass(frozen=True, slots=True)
class _Tables:
    """The buffers in NumPy, and what follows from them: the contexts of each order."""

    ngrams: Ngrams
    counts: list[Counts]
    contexts: list[Contexts]
    parameters_NP: Floats


class NgramModel(nn.Module):
    """p(next token | the order - 1 tokens before it).

    PAD and BOS, which are in no text, have probability 0; every other token has more. The tables
    stay in the memory of the CPU, whatever the device of the tokens."""

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__()
        self.config = config
        lowest_V = np.full(sizes.target, 1.0)
        lowest_V[[PAD, BOS]] = 0.0
        self.lowest_V = lowest_V / lowest_V.sum()

        for n in range(1, config.order + 1):
            self.register_buffer(f"keys_{n}", torch.empty(0, dtype=torch.int64))
            self.register_buffer(f"counts_{n}", torch.empty(0, dtype=torch.int32))
        parameters = len(smoothing.most(config.smoothing))
        self.register_buffer("discounts", torch.zeros(config.order, parameters))

    def fit(self, train: pa.Table, valid: pa.Table, seed: int) -> dict[str, float]:
        """Count the n-grams of `train`; estimate the discounts, or choose them on `valid`.

        Returns the loss on `valid` in nats per token. The seed changes nothing."""
        config = self.config
        ids_T = stream(train)
        ngrams, numbers = Ngrams.of(ids_T, config.order, len(self.lowest_V), config.across_rows)
        count = counts if config.smoothing == "witten_bell" else continuation_counts
        counts_by_order = count(ngrams, numbers)
        for n in range(1, config.order + 1):
            setattr(self, f"keys_{n}", torch.from_numpy(ngrams.keys[n - 1]))
            setattr(self, f"counts_{n}", torch.from_numpy(counts_by_order[n - 1]))

        valid_T = stream(valid)
        parameters_NP = smoothing.estimate(config.smoothing, counts_by_order)
        self.discounts = torch.from_numpy(parameters_NP).float()
        self.__dict__.pop("tables", None)
        if config.discounts == "validation":
            lowest_T = self.lowest_V[valid_T[1:]]
            parameters_NP = smoothing.choose(
                config.smoothing, self.evidence(valid_T), parameters_NP, lowest_T
            )
            self.discounts = torch.from_numpy(parameters_NP).float()
            self.__dict__.pop("tables", None)
        return {"loss": float(-self.log_probs(torch.from_numpy(valid_T)).mean())}

    @cached_property
    def tables(self) -> _Tables:
        """The model's buffers, which do not change any more, for NumPy."""
        orders = range(1, self.config.order + 1)
        ngrams = Ngrams(
            len(self.lowest_V), self.config.across_rows, [self._array(f"keys_{n}") for n in orders]
        )
        counts_by_order = [self._array(f"counts_{n}") for n in orders]
        contexts = _contexts(ngrams, counts_by_order)
        return _Tables(
            ngrams, counts_by_order, contexts, self._array("discounts").astype(np.float64)
        )

    def log_probs(self, ids_T: Tensor) -> Tensor:
        """log P of each token of a stream but the first, given those before: T - 1, float64."""
        stream_T = ids_T.cpu().numpy()
        p_T = smoothing.probabilities(
            self.config.smoothing,
            self.evidence(stream_T),
            self.tables.parameters_NP,
            self.lowest_V[stream_T[1:]],
        )
        with np.errstate(divide="ignore"):
            return torch.from_numpy(np.log(p_T)).to(ids_T.device)

    def evidence(self, ids_T: Ints) -> list[Evidence]:
        """The evidence of each order for all tokens of a stream but the first."""
        tables = self.tables
        trained = (tables.ngrams, tables.counts, tables.contexts)
        if self.config.adaptive:
            continuation = self.config.smoothing != "witten_bell"
            return adaptive_evidence(*trained, ids_T, continuation)
        return smoothing.stream_evidence(*trained, ids_T)

    def begin(self, prompt: Prompt) -> tuple[Tensor, Tensor]:
        """Read each prompt (which begins with EOS, as the stream does) up to its last id, which is
        fed first. The state is ids_BC, padded with PAD on the left."""
        length_B1 = prompt.length_B[:, None]
        width = self.config.order - 1
        place_BC = length_B1 - 1 - width + torch.arange(width, device=length_B1.device)
        ids_BC = prompt.ids_BS.gather(1, place_BC.clamp(min=0)).masked_fill(place_BC < 0, PAD)
        return ids_BC, prompt.ids_BS.gather(1, length_B1 - 1).squeeze(1)

    def step(self, state: Tensor, last_B: Tensor) -> tuple[Tensor, Tensor]:
        """log_probs_BV (float32) of the next id after the context and `last_B`, and the context
        with it."""
        ids_BC = torch.cat([state, last_B[:, None]], 1)[:, 1:]
        p_BV = self.distribution(ids_BC.cpu().numpy())
        with np.errstate(divide="ignore"):
            log_probs_BV = torch.from_numpy(np.log(p_BV)).float()
        return log_probs_BV.to(last_B.device), ids_BC

    def reorder(self, state: Tensor, rows_B: Tensor) -> Tensor:
        return state.index_select(0, rows_B)

    def distribution(self, ids_BC: Ints) -> Floats:
        """The probabilities p_BV of all tokens after each context, float64."""
        tables = self.tables
        vocabulary = tables.ngrams.vocabulary
        p_BV = np.tile(self.lowest_V, (len(ids_BC), 1))
        for n, context_B in enumerate(tables.ngrams.context_numbers(ids_BC), 1):
            # The n-grams that continue a context lie next to each other: F in all rows.
            keys_G = tables.ngrams.keys[n - 1]
            bounds_B2 = np.searchsorted(keys_G, (context_B[:, None] + [0, 1]) * vocabulary)
            bounds_B2[context_B == ABSENT] = 0
            row_F, place_F = ranges(bounds_B2)

            contexts = tables.contexts[n - 1]
            evidence = contexts.evidence(context_B[row_F], tables.counts[n - 1][place_F])
            share_F, _ = smoothing.shares(
                self.config.smoothing, evidence, tables.parameters_NP[n - 1]
            )
            unseen = contexts.evidence(context_B, np.zeros_like(context_B))
            _, below_B = smoothing.shares(
                self.config.smoothing, unseen, tables.parameters_NP[n - 1]
            )
            p_BV *= below_B[:, None]
            p_BV[row_F, keys_G[place_F] % vocabulary] += share_F
        return p_BV

    def _array(self, name: str) -> np.ndarray[Any, Any]:
        array: np.ndarray[Any, Any] = self.get_buffer(name).cpu().numpy()
        return array


def _contexts(ngrams: Ngrams, counts_by_order: list[Counts]) -> list[Contexts]:
    return [Contexts.of(ngrams, n, counts_G) for n, counts_G in enumerate(counts_by_order, 1)]
