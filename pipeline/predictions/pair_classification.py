"""A pair classifier's predictions: the label of every pair of texts, with the log-probabilities of
all labels; and labels of pairs from users.

A pair from a user is one text: premise, a tab, hypothesis."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.core.errors import refuse
from pipeline.predictions import (
    LabelPredictor,
    PredictionRequest,
    Predictor,
    TrainedRun,
    label_predictor,
    write_labels,
)
from pipeline.tasks import pair_classification

_SEPARATOR = "\t"
_MAX_SHOWN = 60  # characters of an invalid text in a message


class Classifier(LabelPredictor):
    """A trained run with its vocabulary and the names of its labels."""

    __slots__ = ()
    TASK: ClassVar[ModuleType] = pair_classification

    def encode(self, texts: Sequence[str]) -> tuple[pa.Table, NDArray[np.int64]]:
        """UserError for a text with words that is no pair."""
        pairs = [_split(text) for text in texts]
        columns = {}
        lengths = []
        for name, side in zip(("premise", "hypothesis"), zip(*pairs, strict=True), strict=True):
            columns[name] = self.codec.encode(pa.array(side, pa.string()))
            lengths.append(pc.list_value_length(columns[name]).to_numpy(zero_copy_only=False))
        # A pair needs words on both sides.
        length_N = np.where(np.minimum(*lengths) > 0, np.add(*lengths), 0)
        return pa.table(columns), length_N

    def log_probs(self, table: pa.Table) -> NDArray[np.float64]:
        model: Any = self.model
        return pair_classification.log_probs(model, table, self.objective, self.device)


def _split(text: str) -> tuple[str, str]:
    if not text.strip():
        return "", ""
    sides = text.split(_SEPARATOR)
    if len(sides) != 2:
        shown = text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "..."
        expected = "a premise and a hypothesis, with a tab between them"
        raise refuse("text", shown.replace(_SEPARATOR, " "), expected)
    return sides[0], sides[1]


def predict(request: PredictionRequest, out: Path) -> None:
    """Write the files of `write_labels`."""
    write_labels(Classifier, request, out)


def load_predictor(run: TrainedRun) -> Predictor:
    """Rows `label` (the most likely one) and `probability` for texts of a premise, a tab and a
    hypothesis; for a pair with an empty side an empty label of probability 0."""
    return label_predictor(Classifier, run)


PARAMS: Mapping[str, tuple[int, int]] = {}
