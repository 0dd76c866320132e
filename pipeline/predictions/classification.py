"""A classifier's predictions: the label of every text, with the log-probabilities of all labels;
and labels of texts from users."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.predictions import (
    LabelPredictor,
    PredictionRequest,
    Predictor,
    TrainedRun,
    label_predictor,
    write_labels,
)
from pipeline.tasks import classification


class Classifier(LabelPredictor):
    """A trained run with its vocabulary and the names of its labels."""

    __slots__ = ()
    TASK: ClassVar[ModuleType] = classification

    def encode(self, texts: Sequence[str]) -> tuple[pa.Table, NDArray[np.int64]]:
        ids = self.codec.encode(pa.array(texts, pa.string()))
        length = pc.list_value_length(ids).to_numpy(zero_copy_only=False)
        return pa.table({"ids": ids}), length

    def log_probs(self, table: pa.Table) -> NDArray[np.float64]:
        model: Any = self.model
        return classification.log_probs(model, table["ids"], self.objective, self.device)


def predict(request: PredictionRequest, out: Path) -> None:
    """Write the files of `write_labels`."""
    write_labels(Classifier, request, out)


def load_predictor(run: TrainedRun) -> Predictor:
    """Rows `label` (the most likely one) and `probability`; for a text without tokens an empty
    label of probability 0."""
    return label_predictor(Classifier, run)


PARAMS: Mapping[str, tuple[int, int]] = {}
