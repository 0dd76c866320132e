"""Language modelling: the next token of one long stream, every row of the table being followed by
EOS.

The stream is read as `batch_size` parallel columns in windows of `steps` (d2l section 9.3):
sequentially, with the state carried from window to window, or at random places with no state.
Shapes: B batch, T time, H hidden, N positions, V vocabulary."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.contracts import EOS, LanguageModel, Loss, Prompt
from pipeline.core import tables
from pipeline.core.errors import at_least_one, refuse
from pipeline.core.seeding import derive
from pipeline.nn.cross_entropy import summed_cross_entropy
from pipeline.ragged import Ragged

SCHEMA = tables.ENCODED_TEXT
KIND = "text"  # of the corpora it reads
SOURCE_TARGET = ("text", "text")  # what is read, and what is answered
USES_SEARCH = True  # whether the answer is found by a search
SCORING_STEPS = 512  # window when scoring: the state is carried, so its size changes no result


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`objective:` of a run. `max_train_tokens` keeps only the stream's beginning (the book trains
    on 10,000 characters)."""

    batch_size: int
    steps: int
    sampling: Literal["sequential", "random"]
    max_train_tokens: int | None

    def __post_init__(self) -> None:
        at_least_one(batch_size=self.batch_size, steps=self.steps)


class Batch(NamedTuple):
    """Windows of the stream and, one step on, what should have been said; the first window of an
    epoch has no past."""

    ids_BT: Tensor
    label_BT: Tensor
    fresh: bool


class Window(NamedTuple):
    """Start of each row of a batch in the stream, and whether the state is reset."""

    start_B: np.ndarray[Any, Any]
    fresh: bool


def stream(table: pa.Table) -> np.ndarray[Any, Any]:
    """EOS, then every row followed by EOS, end to end: int64."""
    rows = Ragged(table["ids"])
    end = np.cumsum(rows.length + 1)
    out = np.full(1 + (int(end[-1]) if len(end) else 0), EOS, dtype=np.int64)
    body = np.ones(len(out), dtype=bool)
    body[0] = False
    body[end] = False
    out[body] = (
        rows.values[int(rows.start[0]) : int(rows.start[0]) + int(rows.length.sum())]
        if len(end)
        else []
    )
    return out


class Task:
    """The objective over a training and a validation table."""

    def __init__(
        self, train: pa.Table, valid: pa.Table, config: Config, seed: int, device: torch.device
    ) -> None:
        self.train = torch.from_numpy(
            stream(train)[
                : None if config.max_train_tokens is None else config.max_train_tokens + 1
            ]
        )
        self.valid, self.config, self.seed, self.device = valid, config, seed, device
        need = config.batch_size * (config.steps + 1)
        if len(self.train) < need:
            raise refuse(
                "objective.batch_size",
                config.batch_size,
                (
                    f"at most {len(self.train) // (config.steps + 1)}: the training text has "
                    f"{len(self.train)} tokens"
                ),
            )

    def plan(self, epoch: int) -> list[Window]:
        """The epoch's windows, from a random offset (d2l section 9.3.3)."""
        c, rng = self.config, np.random.default_rng(derive(self.seed, f"windows of epoch {epoch}"))
        offset = int(
            rng.integers(0, min(c.steps, len(self.train) - c.batch_size * (c.steps + 1) + 1))
        )
        if c.sampling == "random":
            starts = rng.permutation(np.arange(offset, len(self.train) - c.steps, c.steps))
            return [
                Window(starts[i : i + c.batch_size], True)
                for i in range(0, len(starts) - c.batch_size + 1, c.batch_size)
            ]
        column = (len(self.train) - offset - 1) // c.batch_size
        first_B = offset + np.arange(c.batch_size) * column
        return [Window(first_B + i * c.steps, i == 0) for i in range(column // c.steps)]

    def batch(self, planned: Window) -> Batch:
        index_BT = torch.from_numpy(planned.start_B)[:, None] + torch.arange(self.config.steps + 1)
        ids_BT = self.train[index_BT].to(self.device)
        return Batch(ids_BT[:, :-1], ids_BT[:, 1:], planned.fresh)

    def loss(self, model: LanguageModel, batch: Batch, carry: Any) -> tuple[Loss, Any]:
        """Backpropagation stops at the window's start (truncated through time, d2l section 9.7)."""
        hidden_BTH, state = model.hidden(batch.ids_BT, None if batch.fresh else carry)
        total = summed_cross_entropy(
            model.project(hidden_BTH.flatten(0, 1)), batch.label_BT.flatten()
        )
        kept = (
            tuple(part.detach() for part in state) if self.config.sampling == "sequential" else None
        )
        return Loss(total, batch.label_BT.numel()), kept

    def validate(self, model: LanguageModel) -> tuple[Loss, dict[str, float]]:
        nats, count = likelihood(model, self.valid, self.config, self.device)
        return Loss(torch.tensor(nats.sum()), int(count.sum())), {}

    def describe(self, planned: Window) -> str:
        shown = ", ".join(str(start) for start in planned.start_B[:10])
        return (
            f"windows of {self.config.steps} tokens from tokens "
            f"{shown}{', ...' if len(planned.start_B) > 10 else ''}"
        )


@torch.inference_mode()
def likelihood(
    model: LanguageModel, table: pa.Table, config: Config, device: torch.device
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Each row's -log P(row, EOS | all rows before) in nats, and its number of tokens: one pass,
    the state carried."""
    ids_T = torch.from_numpy(stream(table)).to(device)
    pieces: list[Tensor] = []
    state = None
    for start in range(0, len(ids_T) - 1, SCORING_STEPS):
        window_T = ids_T[start : start + SCORING_STEPS + 1]
        hidden_1TH, state = model.hidden(window_T[None, :-1], state)
        logits_TV = model.project(hidden_1TH[0]).float()
        pieces.append(F.cross_entropy(logits_TV, window_T[1:], reduction="none").double().cpu())
    count = (Ragged(table["ids"]).length + 1).astype(np.int32)
    return np.add.reduceat(torch.cat(pieces).numpy(), np.cumsum(count) - count), count


def prompt(ids: pa.ListArray, device: torch.device) -> Prompt:
    """Beginnings of rows as one prompt; each begins with the EOS of the row before."""
    side = Ragged(pa.chunked_array([ids]))
    padded = side.padded(np.arange(len(side.length)), before=EOS, after=EOS)
    length = torch.from_numpy(side.length + 1)
    return Prompt(torch.from_numpy(padded).to(device), length.to(device))
