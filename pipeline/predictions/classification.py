"""A classifier's predictions: the label of every text, with the log-probabilities of all labels;
and labels of texts from users."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from pipeline.contracts import Refitted
from pipeline.inference import Prediction, batches
from pipeline.predictions import (
    NO_LABEL,
    PredictionRequest,
    Predictor,
    Row,
    TrainedRun,
    label_columns,
    label_row,
    write_labels,
    write_outputs,
)
from pipeline.tasks import classification
from pipeline.text import labels
from pipeline.text.encode import Codec
from pipeline.text.input_codec import input_codec

_MAX_TEXTS = 1024  # of a batch
# Tokens of a batch, with padding: 79 MB per layer of 300 float32 values per token.
_MAX_TOKENS = 1 << 16


@dataclass(frozen=True, slots=True)
class Classifier:
    """A trained run with its vocabulary and the names of its labels.

    That of another task of texts is a subclass with its TASK, `encode` and `log_probs`."""

    TASK: ClassVar[ModuleType] = classification
    model: Any
    codec: Codec
    names: pa.StringArray
    objective: Any
    device: torch.device

    @classmethod
    def of(cls, request: PredictionRequest) -> Self:
        """Load the run of the request."""
        return cls(
            request.network(),
            input_codec(request.vocab, cls.TASK.SOURCE_TARGET[0]),
            labels.load(request.vocab),
            request.objective(cls.TASK),
            request.device,
        )

    def encode(self, texts: Sequence[str]) -> tuple[pa.Table, NDArray[np.int64]]:
        """Encode texts of users as columns of the task's table; and the number of tokens of each, 0
        for a text that has no label."""
        ids = self.codec.encode(pa.array(texts, pa.string()))
        return pa.table({"ids": ids}), pc.list_value_length(ids).to_numpy(zero_copy_only=False)

    def log_probs(self, table: pa.Table) -> NDArray[np.float64]:
        """log P(label) of each row and label, NC."""
        return classification.log_probs(self.model, table["ids"], self.objective, self.device)

    def classify(self, texts: Sequence[str]) -> list[Prediction]:
        """The most likely label of each text with its log-probability; NO_LABEL for a text without
        tokens."""
        return [labels[0] if labels else NO_LABEL for labels in self.rank(texts)]

    def rank(self, texts: Sequence[str]) -> list[list[Prediction]]:
        """All labels of each text, the most likely first; none for a text without tokens."""
        ranked: list[list[Prediction]] = [[] for _ in texts]
        table, length = self.encode(texts)
        (positions,) = length.nonzero()
        for batch in batches(length[positions].tolist(), _MAX_TEXTS, _MAX_TOKENS):
            columns = self.predict_labels(table.take(pa.array(positions[batch])))
            log_probs_BC = columns["log_probs"].to_pylist()
            for position, log_probs in zip(positions[batch], log_probs_BC, strict=True):
                labels_C = map(Prediction, self.names.to_pylist(), log_probs, log_probs)
                ranked[position] = sorted(labels_C, key=lambda label: -label.log_prob)
        return ranked

    def for_split(self, split: str) -> Self:
        """The classifier that predicts the split: of validation texts, one that was not fitted to
        them."""
        if split != "valid" or not isinstance(self.model, Refitted):
            return self
        return dataclasses.replace(self, model=self.model.before_refit())

    def predict_labels(self, table: pa.Table) -> dict[str, pa.Array]:
        """Columns of LABELS but `row`."""
        return label_columns(self.log_probs(table), self.names)

    def write(self, request: PredictionRequest, out: Path) -> None:
        """Write the files of `write_labels` and `samples.parquet`."""
        write_labels(
            request,
            self.names,
            self.TASK.SCHEMA,
            lambda split, table: self.for_split(split).predict_labels(table),
            out,
        )
        prompts = [sample.prompt for sample in request.samples]
        write_outputs(request.samples, self.classify(prompts), out)

    def serve(self, texts: Sequence[str], settings: Mapping[str, Any]) -> list[Row]:
        """A `Predictor` without settings."""
        return [label_row(prediction) for prediction in self.classify(texts)]


def predict(request: PredictionRequest, out: Path) -> None:
    """Write `labels_<split>.parquet` for each split, `labels.json` (the labels' names in order) and
    `samples.parquet`."""
    Classifier.of(request).write(request, out)


def open_classifier(run: TrainedRun) -> Callable[[Sequence[str]], list[Prediction]]:
    """Open a run as a function from texts to their labels; NO_LABEL for a text without tokens."""
    return Classifier.of(run.request()).classify


def open_ranking(run: TrainedRun) -> Callable[[Sequence[str]], list[list[Prediction]]]:
    """Open a run as a function from texts to all labels of each, the most likely first."""
    return Classifier.of(run.request()).rank


def load_predictor(run: TrainedRun) -> Predictor:
    """Rows `label` (the most likely one) and `probability`; for a text without tokens an empty
    label of probability 0."""
    return Classifier.of(run.request()).serve


PARAMS: dict[str, tuple[int, int]] = {}
