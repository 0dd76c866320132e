"""Filling blanks: predict every word of a row given all the others.

Batches hold rows of like lengths, up to a number of tokens. The summed log-probability of a row's
words, each given the rest, is its pseudo-log-likelihood (Besag 1975). It is not a probability of
the row, as each word serves as evidence of the others. Its perplexity is therefore not that of a
language model.

Shapes: B batch, T positions from BOS to EOS, W words, N real words, H hidden, V vocabulary."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.contracts import BOS, EOS, PAD, BlankFiller, Loss
from pipeline.core import tables
from pipeline.core.errors import refuse
from pipeline.core.seeding import derive
from pipeline.nn.cross_entropy import summed_cross_entropy
from pipeline.text.token_budget import Ragged, batches_by_budget, batches_by_length, describe_rows

SCHEMA = tables.ENCODED_TEXT
KIND = "text"  # of the corpora that it reads
SOURCE_TARGET = ("text", "text")  # vocabularies of the input and of the output
USES_SEARCH = False  # whether decoding is a search
MODELS = (BlankFiller,)  # protocols of the models that it trains
SCORING_BATCH = 64  # rows per batch when scoring


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`objective:` of a run.

    - `batch_tokens`: words of a batch at most, padding to its longest row counted.
    - `max_length`: rows of more words are not trained on.
    """

    batch_tokens: int
    max_length: int

    def __post_init__(self) -> None:
        if self.batch_tokens < self.max_length:
            raise refuse(
                "batch_tokens", self.batch_tokens, f"at least max_length, {self.max_length}"
            )


class Batch(NamedTuple):
    """Padded rows from BOS to EOS, and the words to predict."""

    ids_BT: Tensor
    length_B: Tensor  # BOS and EOS counted
    label_BW: Tensor


class Task:
    """The objective over a training and a validation table."""

    def __init__(
        self, train: pa.Table, valid: pa.Table, config: Config, seed: int, device: torch.device
    ) -> None:
        self.train = Ragged(train["ids"])
        self.valid = valid
        self.config = config
        self.seed = seed
        self.device = device

        self.usable = np.flatnonzero(
            (self.train.length <= config.max_length) & (self.train.length > 0)
        )
        if not len(self.usable):
            shortest = self.train.length.min()
            raise refuse(
                "objective.max_length",
                config.max_length,
                f"at least {shortest}, the shortest row's length",
            )

    def plan(self, epoch: int) -> list[np.ndarray[Any, Any]]:
        """The epoch's batches as arrays of rows: alike in length, shuffled within and among one
        another."""
        # Sorting is stable: rows of one length stay in random order.
        rng = np.random.default_rng(derive(self.seed, f"batches of epoch {epoch}"))
        rows = rng.permutation(self.usable)
        rows = rows[np.argsort(self.train.length[rows], kind="stable")]
        return batches_by_budget(rows, self.train.length[rows], self.config.batch_tokens, rng)

    def batch(self, planned: np.ndarray[Any, Any]) -> Batch:
        return batch(self.train, planned, self.device)

    def loss(self, model: BlankFiller, batch: Batch, hidden_state: None) -> tuple[Loss, None]:
        logits_NV, label_N = real_logits(model, batch)
        return Loss(summed_cross_entropy(logits_NV, label_N), len(label_N)), None

    def validate(self, model: BlankFiller) -> tuple[Loss, dict[str, float]]:
        nats, count = likelihood(model, self.valid, self.device)
        return Loss(torch.tensor(nats.sum()), int(count.sum())), {}

    def describe(self, planned: np.ndarray[Any, Any]) -> str:
        return describe_rows(planned)


def batch(rows: Ragged, index: np.ndarray[Any, Any], device: torch.device) -> Batch:
    """The rows numbered `index` as a batch."""
    ids_BT = torch.from_numpy(rows.padded(index, before=BOS, after=EOS)).to(device)
    length_B = torch.from_numpy(rows.length[index] + 2).to(device)
    # shorter rows have their EOS among the words
    label_BW = ids_BT[:, 1:-1]
    return Batch(ids_BT, length_B, label_BW.masked_fill(label_BW == EOS, PAD))


def real_logits(model: BlankFiller, batch: Batch) -> tuple[Tensor, Tensor]:
    """logits_NV of the real words, and label_N."""
    real_BW = batch.label_BW != PAD
    hidden_BWH = model.hidden(batch.ids_BT, batch.length_B)
    return model.project(hidden_BWH[real_BW]), batch.label_BW[real_BW]


@torch.inference_mode()
def likelihood(
    model: BlankFiller, table: pa.Table, device: torch.device
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Each row's pseudo -log P in nats, and its number of words."""
    rows = Ragged(table["ids"])
    nats = np.zeros(len(rows.length))
    for index in batches_by_length(rows.length, SCORING_BATCH):
        padded = batch(rows, index, device)
        logits_NV, label_N = real_logits(model, padded)
        nats_N = F.cross_entropy(logits_NV.float(), label_N, reduction="none").double()

        # Sum over the words of each row.
        real_BW = padded.label_BW != PAD
        zeros_BW = torch.zeros(real_BW.shape, dtype=torch.float64, device=device)
        nats[index] = zeros_BW.masked_scatter(real_BW, nats_N).sum(1).cpu().numpy()
    return nats, rows.length.astype(np.int32)


@torch.inference_mode()
def log_probs(
    model: BlankFiller, before: list[int], after: list[int], device: torch.device
) -> Tensor:
    """log_probs_V of the word between two pieces of text."""
    ids_1T = torch.tensor([[BOS, *before, PAD, *after, EOS]], device=device)
    hidden_1WH = model.hidden(ids_1T, torch.tensor([ids_1T.shape[1]], device=device))
    logits_1V = model.project(hidden_1WH[:, len(before)])
    return logits_1V.float().log_softmax(-1)[0]
