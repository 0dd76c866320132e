"""Training on labelled rows: batches, balance of the classes, and loss, for every task whose output
is a label.

Batches hold rows of like lengths, up to a number of tokens.

Shapes: B batch, N rows, C classes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from pipeline.contracts import Loss
from pipeline.core.errors import refuse, share
from pipeline.core.seeding import derive
from pipeline.text import labels
from pipeline.text.token_budget import batches_by_budget, batches_by_length, describe_rows

Balance = Literal["none", "class_weights", "oversample", "undersample"]
Rows = NDArray[np.int64]
LogProbs = NDArray[np.float64]
_SCORING_BATCH = 128  # rows per batch when scoring


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`objective:` of a run.

    - `batch_tokens`: tokens of a batch at most, padding to its longest row counted.
    - `label_smoothing`: with s, the true label keeps 1 - s, and all labels share the rest equally
      (Szegedy et al. 2016, section 7).
    - `balance`: what is done about classes of different size, in training. `class_weights`
      multiplies the loss of a row by N / (C n) for the n rows of its class (King and Zeng 2001).
      `oversample` repeats rows until each class has as many as the largest one; `undersample` draws
      as many of each class as the smallest one has, anew for each epoch, which is shorter then. The
      validation loss, which selects the best weights, has these class weights for all three.
    - `max_length`: tokens read of a row, in training and in prediction (d2l section 16.1.3); null
      reads all.
    """

    batch_tokens: int
    label_smoothing: float
    balance: Balance
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
    """The input of a classifier, and the numbers of the labels."""

    text: Any
    label_B: Tensor


class LabelledTask:
    """Objective over the labels of a training and a validation table.

    A task gives `inputs`, `log_probs`, and the number of positions of each training row."""

    def __init__(
        self, train: pa.Table, valid: pa.Table, config: Config, seed: int, device: torch.device
    ) -> None:
        self.valid = valid
        self.config = config
        self.seed = seed
        self.device = device
        self.label = torch.from_numpy(label_numbers(train))

        self.weight_C: Tensor | None = None
        if config.balance != "none":
            # Each label of either table needs rows to weight or to draw.
            classes = 1 + int(max(self.label.max(), label_numbers(valid).max()))
            rows_C = labels.rows_of_each(self.label.numpy(), classes)
            self.weight_C = torch.from_numpy(class_weights(rows_C)).to(device)

    def positions(self) -> Rows:
        """Positions of each training row, its ends counted and padding not."""
        raise NotImplementedError

    def inputs(self, rows: Rows) -> Any:
        """The classifier's input of the training rows."""
        raise NotImplementedError

    def logits(self, model: Any, inputs: Any) -> Tensor:
        """logits_BC of the inputs."""
        raise NotImplementedError

    def log_probs(self, model: Any) -> LogProbs:
        """log P(label) of each validation row and label, NC."""
        raise NotImplementedError

    def plan(self, epoch: int) -> list[Rows]:
        """The epoch's batches as arrays of rows: alike in length, shuffled within and among one
        another."""
        # Sorting is stable: rows of one length stay in random order.
        rng = np.random.default_rng(derive(self.seed, f"batches of epoch {epoch}"))
        rows = self._balanced_rows(epoch)
        rows = rows[rng.permutation(len(rows))]
        position_N = self.positions()
        rows = rows[np.argsort(position_N[rows], kind="stable")]
        return batches_by_budget(rows, position_N[rows], self.config.batch_tokens, rng)

    def batch(self, planned: Rows) -> Batch:
        label_B = self.label[torch.from_numpy(planned)]
        return Batch(self.inputs(planned), label_B.to(self.device))

    def loss(self, model: Any, batch: Batch, hidden_state: None) -> tuple[Loss, None]:
        logits_BC = self.logits(model, batch.text).float()
        smoothing = self.config.label_smoothing
        if self.weight_C is not None and self.config.balance == "class_weights":
            nats_B = F.cross_entropy(
                logits_BC, batch.label_B, reduction="none", label_smoothing=smoothing
            )
            total = (self.weight_C[batch.label_B] * nats_B).sum()
        else:
            total = F.cross_entropy(
                logits_BC, batch.label_B, reduction="sum", label_smoothing=smoothing
            )
        # The weights' mean over all rows is 1, so the count of the rows is the divisor.
        return Loss(total, len(batch.label_B)), None

    def validate(self, model: Any) -> tuple[Loss, dict[str, float]]:
        log_probs_NC = torch.from_numpy(self.log_probs(model))
        label_N = torch.from_numpy(label_numbers(self.valid))
        accuracy = float((log_probs_NC.argmax(1) == label_N).double().mean())
        # With a balance, each class counts alike in the loss that selects the best weights.
        weight_C = None if self.weight_C is None else self.weight_C.cpu().double()
        total = F.nll_loss(log_probs_NC, label_N, weight=weight_C, reduction="sum")
        return Loss(total, len(label_N)), {"accuracy": accuracy}

    def describe(self, planned: Rows) -> str:
        return describe_rows(planned)

    def _balanced_rows(self, epoch: int) -> Rows:
        if self.config.balance not in ("oversample", "undersample"):
            return np.arange(len(self.label))
        rng = np.random.default_rng(derive(self.seed, f"rows of epoch {epoch}"))
        return resampled(self.label.numpy(), self.config.balance == "oversample", rng)


def label_numbers(table: pa.Table) -> Rows:
    """The numbers of the labels of an encoded table."""
    numbers: Rows = table["label"].to_numpy().astype(np.int64)
    return numbers


def class_weights(rows_C: Rows) -> NDArray[np.float32]:
    """N / (C n) for each class of n rows: inverse to its frequency, with a mean of 1 over the N
    rows."""
    weights: NDArray[np.float32] = (rows_C.sum() / (len(rows_C) * rows_C)).astype(np.float32)
    return weights


def resampled(label_N: Rows, oversample: bool, rng: np.random.Generator) -> Rows:
    """Row numbers with the same number of rows of each class.

    That is the number of the largest class if `oversample`: each row is taken equally often, and
    some rows drawn by lot once more. Else it is the number of the smallest class, drawn by lot."""
    rows_by_class = [np.flatnonzero(label_N == label) for label in np.unique(label_N)]
    sizes = [len(rows) for rows in rows_by_class]
    count = max(sizes) if oversample else min(sizes)

    parts = []
    for rows in rows_by_class:
        times, rest = divmod(count, len(rows))
        parts += [np.tile(rows, times), rng.permutation(rows)[:rest]]
    return np.concatenate(parts)


@torch.inference_mode()
def log_probs(length_N: Rows, logits: Callable[[Rows], Tensor]) -> LogProbs:
    """log P(label) of each row and label, NC. `logits` gives logits_BC of a batch of rows, which
    have like lengths."""
    batches = batches_by_length(length_N, _SCORING_BATCH)
    scores = [logits(rows).double().log_softmax(-1).cpu().numpy() for rows in batches]

    log_probs_NC: LogProbs = np.concatenate(scores)
    log_probs_NC[np.concatenate(batches)] = log_probs_NC.copy()
    return log_probs_NC
