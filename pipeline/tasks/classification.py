"""Classification: predict the label of a text (d2l sections 16.1 to 16.3).

Every text ends in EOS. Batches, the balance of the classes and the loss are those of
`pipeline.nn.labelled`.

Shapes: B batch, S positions, C classes.
"""

import pyarrow as pa
import torch
from torch import Tensor

from pipeline.contracts import Classifier, Prompt
from pipeline.core import tables
from pipeline.nn import labelled
from pipeline.nn.prompts import padded_prompt
from pipeline.text.token_budget import Ragged, round_up_to_bucket

SCHEMA = tables.ENCODED_LABELLED
KIND = "labelled"  # of the corpora that it reads
SOURCE_TARGET = ("text", "label")  # vocabularies of the input and of the output
USES_SEARCH = False  # whether decoding is a search
MODELS = (Classifier,)  # protocols of the models that it trains

Config = labelled.Config


class Task(labelled.LabelledTask):
    """The objective over a training and a validation table."""

    def __init__(
        self, train: pa.Table, valid: pa.Table, config: Config, seed: int, device: torch.device
    ) -> None:
        super().__init__(train, valid, config, seed, device)
        self.train = texts_read(train["ids"], config)

    def positions(self) -> labelled.Rows:
        position_N: labelled.Rows = self.train.length + 1
        return position_N

    def inputs(self, rows: labelled.Rows) -> Prompt:
        return padded_prompt(self.train, rows, self.device)

    def logits(self, model: Classifier, inputs: Prompt) -> Tensor:
        return model.classify(inputs)

    def log_probs(self, model: Classifier) -> labelled.LogProbs:
        return log_probs(model, self.valid["ids"], self.config, self.device)


def texts_read(column: pa.ChunkedArray, config: Config | None) -> Ragged:
    """The texts of a column of ids, cut to `max_length`; in full without `config`, that is for a
    model that is fitted without gradients."""
    texts = Ragged(column)
    if config is not None and config.max_length is not None:
        texts.truncate(config.max_length)
    return texts


def positions(table: pa.Table, config: Config, training: bool, padded: bool) -> int:
    """The positions of the table's longest text as it is read, padding counted if `padded`."""
    length = int(texts_read(table["ids"], config).length.max(initial=0)) + 1
    return round_up_to_bucket(length) if padded else length


def log_probs(
    model: Classifier, ids: pa.ChunkedArray, config: Config | None, device: torch.device
) -> labelled.LogProbs:
    """log P(label | text) of each text and label, NC."""
    texts = texts_read(ids, config)
    return labelled.log_probs(
        texts.length, lambda rows: model.classify(padded_prompt(texts, rows, device))
    )
