"""A pair classifier's predictions: the label of every pair of texts, with the log-probabilities of
all labels; and labels of pairs from users.

A pair from a user is one text: premise, a tab, hypothesis."""

from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.core.errors import refuse
from pipeline.inference import Prediction
from pipeline.predictions import (
    PredictionRequest,
    Predictor,
    TrainedRun,
    classification,
    shortened,
)
from pipeline.tasks import pair_classification

_SEPARATOR = "\t"


class Classifier(classification.Classifier):
    """That of `classification.py`, for pairs."""

    __slots__ = ()
    TASK: ClassVar[ModuleType] = pair_classification

    def encode(self, texts: Sequence[str]) -> tuple[pa.Table, NDArray[np.int64]]:
        """UserError for a text with words that is no pair; a pair needs words on both sides."""
        pairs = [_split(text) for text in texts]
        columns = {
            name: self.codec.encode(pa.array([pair[side] for pair in pairs], pa.string()))
            for side, name in enumerate(("premise", "hypothesis"))
        }
        premise_N, hypothesis_N = (
            pc.list_value_length(ids).to_numpy(zero_copy_only=False) for ids in columns.values()
        )
        length_N = np.where((premise_N > 0) & (hypothesis_N > 0), premise_N + hypothesis_N, 0)
        return pa.table(columns), length_N

    def log_probs(self, table: pa.Table) -> NDArray[np.float64]:
        return pair_classification.log_probs(self.model, table, self.objective, self.device)


def _split(text: str) -> tuple[str, str]:
    if not text.strip():
        return "", ""
    sides = text.split(_SEPARATOR)
    if len(sides) != 2:
        expected = "a premise and a hypothesis, with a tab between them"
        raise refuse("text", shortened(text).replace(_SEPARATOR, " "), expected)
    return sides[0], sides[1]


def predict(request: PredictionRequest, out: Path) -> None:
    """Write the files of `classification.predict`."""
    Classifier.of(request).write(request, out)


def open_classifier(run: TrainedRun) -> Callable[[Sequence[str]], list[Prediction]]:
    """Open a run as a function from texts of a premise, a tab and a hypothesis to their labels;
    NO_LABEL for a pair with a side without tokens."""
    return Classifier.of(run.request()).classify


def open_ranking(run: TrainedRun) -> Callable[[Sequence[str]], list[list[Prediction]]]:
    """Open a run as a function from such texts to all labels of each, the most likely first."""
    return Classifier.of(run.request()).rank


def load_predictor(run: TrainedRun) -> Predictor:
    """Rows `label` (the most likely one) and `probability` for texts of a premise, a tab and a
    hypothesis; for a pair with an empty side an empty label of probability 0."""
    return Classifier.of(run.request()).serve


PARAMS: dict[str, tuple[int, int]] = {}
