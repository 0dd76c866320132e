"""Classification: predict the label of a text (d2l sections 16.1 to 16.3).

Batches hold texts of like lengths, up to a number of tokens. Every text ends in EOS.

Shapes: B batch, S positions, C classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.contracts import EOS, Classifier, Loss, Prompt
from pipeline.core import tables
from pipeline.core.errors import refuse, share
from pipeline.core.seeding import derive
from pipeline.text.token_budget import Ragged, batches_by_budget, describe_rows, round_up_to_bucket

SCHEMA = tables.ENCODED_LABELLED
KIND = "labelled"  # of the corpora that it reads
SOURCE_TARGET = ("text", "label")  # vocabularies of the input and of the output
USES_SEARCH = False  # whether decoding is a search
MODELS = (Classifier,)  # protocols of the models that it trains
SCORING_BATCH = 128  # rows per batch when scoring


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`objective:` of a run.

    - `batch_tokens`: tokens of a batch at most, padding to its longest text counted.
    - `label_smoothing`: with s, the true label keeps 1 - s, and all labels share the rest equally
      (Szegedy et al. 2016, section 7).
    - `max_length`: tokens read of a text, in training and in prediction (d2l section 16.1.3); null
      reads all.
    """

    batch_tokens: int
    label_smoothing: float
    max_length: int | None

    def __post_init__(self) -> None:
        if self.max_length is not None and self.max_length < 1:
            raise refuse(
                "max_length", self.max_length, "at least 1, or null to read all of every text"
            )
        least = 1 if self.max_length is None else self.max_length + 1
        if self.batch_tokens < least:
            raise refuse("batch_tokens", self.batch_tokens, f"at least {least}, for one text")
        share(label_smoothing=self.label_smoothing)


class Batch(NamedTuple):
    """Texts and the numbers of their labels."""

    text: Prompt
    label_B: Tensor


class Texts:
    """A column of ids as padded batches of any rows."""

    def __init__(
        self, column: pa.ChunkedArray, config: Config | None, device: torch.device
    ) -> None:
        """`config`: None for a model that is fitted without gradients and reads texts in full."""
        self.ids = Ragged(column)
        self.device = device
        if config is not None and config.max_length is not None:
            self.ids.truncate(config.max_length)

    def prompt(self, rows: np.ndarray[Any, Any]) -> Prompt:
        ids = torch.from_numpy(self.ids.padded(rows, before=None, after=EOS)).to(self.device)
        return Prompt(ids, torch.from_numpy(self.ids.length[rows] + 1).to(self.device))

    def by_length(self) -> Iterator[tuple[np.ndarray[Any, Any], Prompt]]:
        """All rows in batches of like lengths, for scoring."""
        order = np.argsort(self.ids.length, kind="stable")
        for start in range(0, len(order), SCORING_BATCH):
            rows = order[start : start + SCORING_BATCH]
            yield rows, self.prompt(rows)


class Task:
    """The objective over a training and a validation table."""

    def __init__(
        self, train: pa.Table, valid: pa.Table, config: Config, seed: int, device: torch.device
    ) -> None:
        self.train = Texts(train["ids"], config, device)
        self.valid = valid
        self.config = config
        self.seed = seed
        self.device = device
        self.label = torch.from_numpy(train["label"].to_numpy().astype(np.int64))

    def plan(self, epoch: int) -> list[np.ndarray[Any, Any]]:
        """The epoch's batches as arrays of rows: alike in length, shuffled within and among one
        another."""
        # Sorting is stable: rows of one length stay in random order.
        rng = np.random.default_rng(derive(self.seed, f"batches of epoch {epoch}"))
        rows = rng.permutation(len(self.label))
        rows = rows[np.argsort(self.train.ids.length[rows], kind="stable")]
        return batches_by_budget(
            rows, self.train.ids.length[rows] + 1, self.config.batch_tokens, rng
        )

    def batch(self, planned: np.ndarray[Any, Any]) -> Batch:
        label_B = self.label[torch.from_numpy(planned)]
        return Batch(self.train.prompt(planned), label_B.to(self.device))

    def loss(self, model: Classifier, batch: Batch, hidden_state: None) -> tuple[Loss, None]:
        logits_BC = model.classify(batch.text).float()
        total = F.cross_entropy(
            logits_BC, batch.label_B, reduction="sum", label_smoothing=self.config.label_smoothing
        )
        return Loss(total, len(batch.label_B)), None

    def validate(self, model: Classifier) -> tuple[Loss, dict[str, float]]:
        log_probs_BC = torch.from_numpy(
            log_probs(model, self.valid["ids"], self.config, self.device)
        )
        label_B = torch.from_numpy(self.valid["label"].to_numpy().astype(np.int64))
        accuracy = float((log_probs_BC.argmax(1) == label_B).double().mean())
        total = F.nll_loss(log_probs_BC, label_B, reduction="sum")
        return Loss(total, len(label_B)), {"accuracy": accuracy}

    def describe(self, planned: np.ndarray[Any, Any]) -> str:
        return describe_rows(planned)


def positions(table: pa.Table, config: Config, training: bool, padded: bool) -> int:
    """The positions of the table's longest text as it is read, padding counted if `padded`."""
    longest = int(Ragged(table["ids"]).length.max(initial=0))
    length = (longest if config.max_length is None else min(longest, config.max_length)) + 1
    return round_up_to_bucket(length) if padded else length


@torch.inference_mode()
def log_probs(
    model: Classifier, ids: pa.ChunkedArray, config: Config | None, device: torch.device
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """log P(label | text) of each text and label, BC."""
    rows = []
    batches = []
    for batch_rows, prompt in Texts(ids, config, device).by_length():
        rows.append(batch_rows)
        batches.append(model.classify(prompt).double().log_softmax(-1).cpu().numpy())

    # From the order of lengths back to the order of the table.
    log_probs_BC = np.concatenate(batches)
    log_probs_BC[np.concatenate(rows)] = log_probs_BC.copy()
    return log_probs_BC
