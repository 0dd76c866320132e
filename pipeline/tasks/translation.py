"""Translation: predict the target given the source (d2l sections 10.5 to 10.7).

Batches hold rows of like lengths, up to a number of tokens.

Shapes: B batch, S source, T target, H hidden, N real target positions, V vocabulary.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.contracts import BOS, EOS, PAD, Loss, Prompt, Translator
from pipeline.core import tables
from pipeline.core.errors import refuse, share
from pipeline.core.seeding import derive
from pipeline.nn.cross_entropy import summed_cross_entropy
from pipeline.nn.prompts import padded_prompt
from pipeline.text.token_budget import Ragged, batches_by_budget, describe_rows, round_up_to_bucket

SCHEMA = tables.ENCODED_PAIR
KIND = "pair"  # of the corpora that it reads
SOURCE_TARGET = ("source", "target")  # vocabularies of the input and of the output
USES_SEARCH = True  # whether decoding is a search
MODELS = (Translator,)  # protocols of the models that it trains
SCORING_BATCH = 64  # rows per batch when scoring and searching


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`objective:` of a run.

    - `batch_tokens`: target tokens of a batch at most, padding to its longest row counted.
    - `label_smoothing`: with s, the true token keeps 1 - s, and all tokens share the rest equally
      (Szegedy et al. 2016, section 7).
    - `max_length`: pairs with a longer source or target are not trained on.
    - `scheduled_sampling`: k of `reference_share`: some inputs are the model's own tokens (Bengio
      et al. 2015). With 0 all are; null is teacher forcing, in which none is.
    - `padding_in_loss`: whether padding is predicted too, an exercise of d2l section 10.7.
    """

    batch_tokens: int
    label_smoothing: float
    max_length: int
    scheduled_sampling: float | None
    padding_in_loss: bool

    def __post_init__(self) -> None:
        if self.batch_tokens < self.max_length + 1:
            raise refuse(
                "batch_tokens", self.batch_tokens, f"more than max_length, {self.max_length}"
            )
        share(label_smoothing=self.label_smoothing)
        if self.scheduled_sampling is not None and self.scheduled_sampling < 0:
            todo = "Use null for teacher forcing."
            raise refuse("scheduled_sampling", self.scheduled_sampling, "0 or more, or null", todo)


class Batch(NamedTuple):
    """Padded pairs for teacher forcing."""

    prompt: Prompt  # the source, ending in EOS
    input_BT: Tensor  # BOS and the target
    label_BT: Tensor  # the target and EOS


class Pairs:
    """An encoded table as padded batches of any rows."""

    def __init__(self, table: pa.Table, device: torch.device) -> None:
        self.source = Ragged(table["source"])
        self.target = Ragged(table["target"])
        self.device = device

    def __len__(self) -> int:
        return len(self.source.length)

    def batch(self, rows: np.ndarray[Any, Any]) -> Batch:
        target = self.target.padded(rows, before=BOS, after=EOS)
        target_BT = torch.from_numpy(target).to(self.device)
        label_BT = target_BT[:, 1:]
        # EOS is a label, but never an input: it would stand where the label is PAD.
        input_BT = target_BT[:, :-1].masked_fill(label_BT == PAD, PAD)
        return Batch(self.prompt(rows), input_BT, label_BT)

    def prompt(self, rows: np.ndarray[Any, Any]) -> Prompt:
        return padded_prompt(self.source, rows, self.device)

    def by_length(self) -> list[np.ndarray[Any, Any]]:
        """All rows in batches of like lengths, for scoring."""
        order = np.lexsort((self.target.length, self.source.length))
        return [order[i : i + SCORING_BATCH] for i in range(0, len(order), SCORING_BATCH)]


class Task:
    """The objective over a training and a validation table."""

    def __init__(
        self, train: pa.Table, valid: pa.Table, config: Config, seed: int, device: torch.device
    ) -> None:
        self.train = Pairs(train, device)
        self.valid = Pairs(valid, device)
        self.config = config
        self.seed = seed
        self.epoch = 0

        longest = np.maximum(self.train.source.length, self.train.target.length)
        self.usable = np.flatnonzero(longest <= config.max_length)
        if not len(self.usable):
            raise refuse(
                "objective.max_length",
                config.max_length,
                f"at least {longest.min()}, the shortest pair's length",
            )

    def plan(self, epoch: int) -> list[np.ndarray[Any, Any]]:
        """The epoch's batches as arrays of rows: alike in length, shuffled within and among one
        another. `loss` is that of this epoch from now on."""
        self.epoch = epoch

        # Sorting is stable: rows of one length stay in random order.
        rng = np.random.default_rng(derive(self.seed, f"batches of epoch {epoch}"))
        rows = rng.permutation(self.usable)
        rows = rows[np.lexsort((self.train.source.length[rows], self.train.target.length[rows]))]
        return batches_by_budget(
            rows, self.train.target.length[rows] + 1, self.config.batch_tokens, rng
        )

    def batch(self, planned: np.ndarray[Any, Any]) -> Batch:
        return self.train.batch(planned)

    def loss(self, model: Translator, batch: Batch, hidden_state: None) -> tuple[Loss, None]:
        if self.config.scheduled_sampling is not None:
            share_of_reference = reference_share(self.config.scheduled_sampling, self.epoch)
            batch = batch._replace(input_BT=mixed_inputs(model, batch, share_of_reference))

        if self.config.padding_in_loss:
            hidden_BTH = model.hidden(batch.prompt, batch.input_BT)
            logits_NV = model.project(hidden_BTH.flatten(0, 1))
            label_N = batch.label_BT.flatten()
        else:
            logits_NV, label_N = real_logits(model, batch)
        total = summed_cross_entropy(logits_NV, label_N, self.config.label_smoothing)
        return Loss(total, len(label_N)), None

    def validate(self, model: Translator) -> tuple[Loss, dict[str, float]]:
        nats, count = _likelihood(model, self.valid)
        return Loss(torch.tensor(nats.sum()), int(count.sum())), {}

    def describe(self, planned: np.ndarray[Any, Any]) -> str:
        return describe_rows(planned)


def positions(table: pa.Table, config: Config, training: bool, padded: bool) -> int:
    """The positions of the table's longest row, padding counted if `padded`.

    `training` leaves out the pairs that are not trained on.
    """
    longest = np.maximum(Ragged(table["source"]).length, Ragged(table["target"]).length)
    if training:
        longest = longest[longest <= config.max_length]
    length = int(longest.max(initial=0)) + 1
    return round_up_to_bucket(length) if padded else length


def reference_share(k: float, epoch: int) -> float:
    """Probability in an epoch, counted from 0, that an input is the reference's token: k / (k +
    exp(epoch / k)), inverse sigmoid decay (Bengio et al. 2015, section 2.4)."""
    # A small k would give an exponential that no float holds.
    return k / (k + math.exp(min(epoch / k, 100.0))) if k else 0.0


@torch.no_grad()
def mixed_inputs(model: Any, batch: Batch, share_of_reference: float) -> Tensor:
    """input_BT in which each token after BOS is the reference's with this probability, else the
    model's likeliest one after the inputs before it.

    The model decodes as after training, without dropout."""
    was_training = model.training
    model.eval()
    state, last_B = model.begin(batch.prompt)
    inputs = [last_B]
    for reference_B in batch.input_BT[:, 1:].unbind(1):
        log_probs_BV, state = model.step(state, last_B)
        is_reference_B = torch.rand(len(last_B), device=last_B.device) < share_of_reference
        last_B = torch.where(is_reference_B, reference_B, log_probs_BV.argmax(1))
        inputs.append(last_B)
    model.train(was_training)
    return torch.stack(inputs, 1).masked_fill(batch.label_BT == PAD, PAD)


def real_logits(model: Translator, batch: Batch) -> tuple[Tensor, Tensor]:
    """logits_NV at the real target positions only, and label_N."""
    hidden_BTH = model.hidden(batch.prompt, batch.input_BT)
    real_BT = batch.label_BT != PAD
    return model.project(hidden_BTH[real_BT]), batch.label_BT[real_BT]


def likelihood(
    model: Translator, table: pa.Table, config: Config | None, device: torch.device
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Each row's teacher-forced -log P(target | source) in nats, and its number of target tokens.

    EOS is counted.
    """
    return _likelihood(model, Pairs(table, device))


@torch.inference_mode()
def _likelihood(
    model: Translator, pairs: Pairs
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    nats = np.zeros(len(pairs))
    for rows in pairs.by_length():
        batch = pairs.batch(rows)
        logits_NV, label_N = real_logits(model, batch)
        nats_N = F.cross_entropy(logits_NV.float(), label_N, reduction="none").double()
        real_BT = batch.label_BT != PAD
        zeros_BT = torch.zeros(real_BT.shape, dtype=torch.float64, device=nats_N.device)
        nats_BT = zeros_BT.masked_scatter(real_BT, nats_N)
        nats[rows] = nats_BT.sum(1).cpu().numpy()
    return nats, (pairs.target.length + 1).astype(np.int32)


def prompts(table: pa.Table, device: torch.device) -> Iterator[tuple[np.ndarray[Any, Any], Prompt]]:
    """Every source of the table, in batches of like lengths with their row numbers."""
    pairs = Pairs(table, device)
    for rows in pairs.by_length():
        yield rows, pairs.prompt(rows)


def prompt(ids: pa.ListArray, device: torch.device) -> Prompt:
    """Encoded source sentences as one prompt."""
    rows = Ragged(pa.chunked_array([ids]))
    return padded_prompt(rows, np.arange(len(rows.length)), device)
