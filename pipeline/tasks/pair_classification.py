"""Classification of pairs of texts: how a premise and a hypothesis are related (natural language
inference, d2l section 16.4).

Each text ends in EOS. Batches, the balance of the classes and the loss are those of
`pipeline.nn.labelled`.

Shapes: B batch, S positions, N rows, C classes.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.contracts import PairClassifier, Prompt
from pipeline.core import tables
from pipeline.core.errors import refuse
from pipeline.nn import labelled
from pipeline.nn.prompts import padded_prompt
from pipeline.text.token_budget import Ragged, round_up_to_bucket

SCHEMA = tables.ENCODED_LABELLED_PAIR
KIND = "labelled_pair"  # of the corpora that it reads
SOURCE_TARGET = ("text", "label")  # vocabularies of the input and of the output
USES_SEARCH = False  # whether decoding is a search
MODELS = (PairClassifier,)  # protocols of the models that it trains
_ENDS = 2  # an EOS for each text


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(labelled.Config):
    """`objective:` of a run, as that of `classification`.

    `max_length` counts the words of both texts. Of a longer pair the longer text loses its last
    word until the pair fits (d2l section 16.7, exercise 2)."""

    def __post_init__(self) -> None:
        labelled.Config.__post_init__(self)
        if self.max_length is None:
            return
        if self.max_length < 2:
            raise refuse("max_length", self.max_length, "at least 2, a word of each text, or null")
        if self.batch_tokens < self.max_length + _ENDS:
            least = self.max_length + _ENDS
            raise refuse("batch_tokens", self.batch_tokens, f"at least {least}, for one pair")


class Inputs(NamedTuple):
    """Premises and hypotheses of a batch."""

    premise: Prompt
    hypothesis: Prompt


class Pairs:
    """The columns `premise` and `hypothesis` of a table as padded batches of any rows."""

    def __init__(self, table: pa.Table, config: Config | None, device: torch.device) -> None:
        """`config`: None for a model that is fitted without gradients and reads texts in full."""
        self.premise = Ragged(table["premise"])
        self.hypothesis = Ragged(table["hypothesis"])
        self.device = device
        if config is not None and config.max_length is not None:
            lengths = cut_lengths(self.premise.length, self.hypothesis.length, config.max_length)
            self.premise.length, self.hypothesis.length = lengths
        # Positions of each pair, the ends of both texts counted.
        self.length = self.premise.length + self.hypothesis.length + _ENDS

    def inputs(self, rows: labelled.Rows) -> Inputs:
        """The pairs of these rows."""
        return Inputs(
            padded_prompt(self.premise, rows, self.device),
            padded_prompt(self.hypothesis, rows, self.device),
        )


class Task(labelled.LabelledTask):
    """The objective over a training and a validation table."""

    def __init__(
        self, train: pa.Table, valid: pa.Table, config: Config, seed: int, device: torch.device
    ) -> None:
        super().__init__(train, valid, config, seed, device)
        self.config: Config = config
        self.train = Pairs(train, config, device)

    def positions(self) -> labelled.Rows:
        position_N: labelled.Rows = self.train.length
        return position_N

    def inputs(self, rows: labelled.Rows) -> Inputs:
        return self.train.inputs(rows)

    def logits(self, model: PairClassifier, inputs: Inputs) -> Tensor:
        return model.classify_pair(*inputs)

    def log_probs(self, model: PairClassifier) -> labelled.LogProbs:
        return log_probs(model, self.valid, self.config, self.device)


def cut_lengths(
    first_N: NDArray[np.int64], second_N: NDArray[np.int64], most: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Number of words read of each text, `most` in all: the longer one loses its end until both
    fit; of equally long ones the second loses first."""
    cut_N = np.minimum(first_N, np.maximum(most - second_N, most - most // 2))
    return cut_N, np.minimum(second_N, most - cut_N)


def positions(table: pa.Table, config: Config, training: bool, padded: bool) -> int:
    """The positions of the table's longest pair as it is read, padding counted if `padded`."""
    length = int(Pairs(table, config, torch.device("cpu")).length.max(initial=0))
    return round_up_to_bucket(length) if padded else length


def log_probs(
    model: PairClassifier, table: pa.Table, config: Config | None, device: torch.device
) -> labelled.LogProbs:
    """log P(label | premise, hypothesis) of each row and label, NC."""
    pairs = Pairs(table, config, device)
    return labelled.log_probs(pairs.length, lambda rows: model.classify_pair(*pairs.inputs(rows)))
