"""Language modelling: predict the next token of one long stream (d2l section 9.3).

The stream holds the rows of the table, each followed by EOS. It is read as `batch_size` parallel
columns in windows of `steps` tokens: sequentially, with the hidden state carried from window to
window, or at random places without a state.

Shapes: B batch, T time, H hidden, N positions, V vocabulary."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from pipeline.contracts import EOS, LanguageModel, Loss, Prompt, StreamScorer
from pipeline.core import tables
from pipeline.core.errors import at_least_one, refuse
from pipeline.core.seeding import derive
from pipeline.nn.cross_entropy import summed_cross_entropy
from pipeline.nn.sampled_softmax import sampled_cross_entropy
from pipeline.nn.stream_likelihood import stream_log_probs
from pipeline.text.stream import stream
from pipeline.text.token_budget import Ragged

SCHEMA = tables.ENCODED_TEXT
KIND = "text"  # of the corpora that it reads
SOURCE_TARGET = ("text", "text")  # vocabularies of the input and of the output
USES_SEARCH = True  # whether decoding is a search
MODELS = (LanguageModel, StreamScorer)  # protocols of the models that it trains


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`objective:` of a run.

    `max_train_tokens` keeps only the beginning of the stream (the book trains on 10,000
    characters). `softmax_words`: the loss in training is estimated from about this many
    frequent words and a sample of the others (`pipeline.nn.sampled_softmax`); null computes it over
    all words.
    """

    batch_size: int
    steps: int
    sampling: Literal["sequential", "random"]
    max_train_tokens: int | None
    softmax_words: int | None

    def __post_init__(self) -> None:
        at_least_one(batch_size=self.batch_size, steps=self.steps)
        if self.softmax_words is not None and self.softmax_words < 1:
            raise refuse("softmax_words", self.softmax_words, "at least 1, or null for all words")


class Batch(NamedTuple):
    """Windows of the stream, and the labels, which are the windows one step later.

    `fresh`: the hidden state is reset, as at the first window of an epoch.
    """

    ids_BT: Tensor
    label_BT: Tensor
    fresh: bool


class Window(NamedTuple):
    """Start of each row of a batch in the stream, and whether the hidden state is reset."""

    start_B: np.ndarray[Any, Any]
    fresh: bool


class Task:
    """The objective over a training and a validation table."""

    def __init__(
        self, train: pa.Table, valid: pa.Table, config: Config, seed: int, device: torch.device
    ) -> None:
        # one token more than is read: the last label
        limit = None if config.max_train_tokens is None else config.max_train_tokens + 1
        self.train = torch.from_numpy(stream(train)[:limit])
        self.valid = valid
        self.config = config
        self.seed = seed
        self.device = device

        most = len(self.train) // (config.steps + 1)
        if config.batch_size > most:
            raise refuse(
                "objective.batch_size",
                config.batch_size,
                f"at most {most}: the training text has {len(self.train)} tokens",
            )

    def plan(self, epoch: int) -> list[Window]:
        """The epoch's windows, from a random offset (d2l section 9.3.3)."""
        rng = np.random.default_rng(derive(self.seed, f"windows of epoch {epoch}"))
        tokens = len(self.train)
        batch_size = self.config.batch_size
        steps = self.config.steps

        # The offset leaves at least one window for each row of a batch.
        offset = int(rng.integers(0, min(steps, tokens - batch_size * (steps + 1) + 1)))

        # Random sampling: windows in random order, a last incomplete batch is dropped.
        if self.config.sampling == "random":
            starts = rng.permutation(np.arange(offset, tokens - steps, steps))
            return [
                Window(starts[i : i + batch_size], True)
                for i in range(0, len(starts) - batch_size + 1, batch_size)
            ]

        # Sequential partitioning: window i + 1 of a column follows window i in the stream.
        column_length = (tokens - offset - 1) // batch_size
        first_B = offset + np.arange(batch_size) * column_length
        return [Window(first_B + i * steps, i == 0) for i in range(column_length // steps)]

    def batch(self, planned: Window) -> Batch:
        windows_NT = self.train.unfold(0, self.config.steps + 1, 1)
        ids_BT = windows_NT[torch.from_numpy(planned.start_B)].to(self.device)
        return Batch(ids_BT[:, :-1], ids_BT[:, 1:], planned.fresh)

    def loss(self, model: LanguageModel, batch: Batch, hidden_state: Any) -> tuple[Loss, Any]:
        """The summed loss, and the hidden state to carry to the next window."""
        hidden_BTH, state = model.hidden(batch.ids_BT, None if batch.fresh else hidden_state)
        label_BT = batch.label_BT
        # Flatten the tokens in the order of memory, which copies nothing.
        if (hidden_TBH := hidden_BTH.transpose(0, 1)).is_contiguous():
            hidden_NH, label_N = hidden_TBH.flatten(0, 1), label_BT.T.flatten()
        else:
            hidden_NH, label_N = hidden_BTH.flatten(0, 1), label_BT.flatten()
        words = self.config.softmax_words
        if words is None:
            nats = summed_cross_entropy(model.project(hidden_NH), label_N)
        else:
            nats = sampled_cross_entropy(model.output, hidden_NH, label_N, words)
        loss = Loss(nats, label_N.numel())
        if self.config.sampling == "random":
            return loss, None

        # Truncated backpropagation through time (d2l section 9.7): gradients stop at the window.
        return loss, tuple(part.detach() for part in state)

    def validate(self, model: LanguageModel) -> tuple[Loss, dict[str, float]]:
        nats, count = likelihood(model, self.valid, self.config, self.device)
        return Loss(torch.tensor(nats.sum()), int(count.sum())), {}

    def describe(self, planned: Window) -> str:
        shown = ", ".join(str(start) for start in planned.start_B[:10])
        return (
            f"windows of {self.config.steps} tokens from tokens "
            f"{shown}{', ...' if len(planned.start_B) > 10 else ''}"
        )


def likelihood(
    model: LanguageModel | StreamScorer,
    table: pa.Table,
    config: Config | None,
    device: torch.device,
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Each row's -log P(row, EOS | all rows before) in nats, and its number of tokens.

    One pass over the stream; the hidden state is carried.
    """
    log_probs_T = stream_log_probs(model, torch.from_numpy(stream(table)).to(device))

    # Sum over the tokens of each row.
    count = (Ragged(table["ids"]).length + 1).astype(np.int32)
    first = np.cumsum(count) - count
    return np.add.reduceat(-log_probs_T.numpy(), first), count


def prompt(ids: pa.ListArray, device: torch.device) -> Prompt:
    """Beginnings of rows as one prompt; each starts with the EOS of the row before."""
    rows = Ragged(pa.chunked_array([ids]))
    padded = rows.padded(np.arange(len(rows.length)), before=EOS, after=EOS)
    length = torch.from_numpy(rows.length + 1)
    return Prompt(torch.from_numpy(padded).to(device), length.to(device))
