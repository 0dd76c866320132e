"""Classification: predict the label of a text (d2l sections 16.1 to 16.3).

Every text ends in EOS. Batches, the balance of the classes and the loss are those of
`pipeline.nn.labelled`.

Shapes: B batch, S positions, C classes.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.contracts import EOS, Classifier, Prompt
from pipeline.core import tables
from pipeline.nn import labelled
from pipeline.text.token_budget import Ragged, round_up_to_bucket

SCHEMA = tables.ENCODED_LABELLED
KIND = "labelled"  # of the corpora that it reads
SOURCE_TARGET = ("text", "label")  # vocabularies of the input and of the output
USES_SEARCH = False  # whether decoding is a search
MODELS = (Classifier,)  # protocols of the models that it trains
SCORING_BATCH = 128  # rows per batch when scoring


Config = labelled.Config


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


class Task(labelled.LabelledTask):
    """The objective over a training and a validation table."""

    def __init__(
        self, train: pa.Table, valid: pa.Table, config: Config, seed: int, device: torch.device
    ) -> None:
        super().__init__(train, valid, config, seed, device)
        self.train = Texts(train["ids"], config, device)

    def positions(self) -> labelled.Rows:
        position_N: labelled.Rows = self.train.ids.length + 1
        return position_N

    def inputs(self, rows: labelled.Rows) -> Prompt:
        return self.train.prompt(rows)

    def logits(self, model: Classifier, inputs: Prompt) -> Tensor:
        return model.classify(inputs)

    def log_probs(self, model: Classifier) -> NDArray[np.float64]:
        return log_probs(model, self.valid["ids"], self.config, self.device)


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

    return labelled.restored_order(rows, batches)
