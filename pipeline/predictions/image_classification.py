"""A picture classifier's predictions: the label of every picture, with the log-probabilities of all
labels; and labels of users' pictures, which are PNG files."""

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from pipeline.contracts import ImageClassifier
from pipeline.core.errors import refuse
from pipeline.core.images import Pixels, decode_png
from pipeline.inference import Prediction, check_time
from pipeline.nn.images import pixels_NYX
from pipeline.predictions import (
    PredictionRequest,
    Predictor,
    Row,
    TrainedRun,
    label_columns,
    label_predictions,
    label_row,
    write_labels,
    write_outputs,
)
from pipeline.tasks import image_classification
from pipeline.text import labels

_MAX_PICTURES = 256  # of a batch


@dataclass(frozen=True, slots=True)
class Classifier:
    """A trained run with the names of its labels."""

    model: Any  # an ImageClassifier
    names: pa.StringArray
    device: torch.device

    @classmethod
    def of(cls, request: PredictionRequest) -> "Classifier":
        """Load the run of the request."""
        return cls(request.network(), labels.load(request.vocab), request.device)

    @property
    def image_size(self) -> tuple[int, int]:
        """Y and X of the pictures that the model reads."""
        model: ImageClassifier = self.model
        return model.image_size

    def predict_labels(self, image_NYX: np.ndarray[Any, np.dtype[np.uint8]]) -> dict[str, Any]:
        """Columns of LABELS but `row`."""
        log_probs_NC = image_classification.log_probs(self.model, image_NYX, self.device)
        return label_columns(log_probs_NC, self.names)

    def classify(self, pictures: Sequence[Pixels]) -> list[Prediction]:
        """The most likely label of each picture YX with its log-probability; OutOfTime between two
        batches."""
        predictions: list[Prediction] = []
        for start in range(0, len(pictures), _MAX_PICTURES):
            check_time()
            columns = self.predict_labels(np.stack(pictures[start : start + _MAX_PICTURES]))
            predictions += label_predictions(columns)
        return predictions


def predict(request: PredictionRequest, out: Path) -> None:
    """Write `labels_<split>.parquet` for each split, `labels.json` and `samples.parquet` of the
    samples, which are PNG files as base64."""
    classifier = Classifier.of(request)
    write_labels(
        request,
        classifier.names,
        image_classification.SCHEMA,
        lambda split, table: classifier.predict_labels(pixels_NYX(table)),
        out,
    )

    pictures = [
        _from_base64(sample.prompt, f"samples[{number}].prompt", classifier.image_size)
        for number, sample in enumerate(request.samples)
    ]
    write_outputs(request.samples, classifier.classify(pictures), out)


def open_classifier(run: TrainedRun) -> Callable[[Sequence[str]], list[Prediction]]:
    """Open a run as a function from names of PNG files to their labels.

    UserError for a file that cannot be read or is no picture of the model's size."""
    classifier = Classifier.of(run.request())

    def classify(names: Sequence[str]) -> list[Prediction]:
        return classifier.classify([_from_file(name, classifier.image_size) for name in names])

    return classify


def load_predictor(run: TrainedRun) -> Predictor:
    """Rows `label` (the most likely one) and `probability` of PNG files as base64."""
    classifier = Classifier.of(run.request())

    def predict(texts: Sequence[str], settings: Mapping[str, Any]) -> list[Row]:
        # Check all pictures before the first is classified.
        pictures = [
            _from_base64(text, f"inputs[{number}]", classifier.image_size)
            for number, text in enumerate(texts)
        ]
        return [label_row(prediction) for prediction in classifier.classify(pictures)]

    return predict


def _from_file(name: str, size: tuple[int, int]) -> Pixels:
    try:
        data = Path(name).read_bytes()
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or "no file's name").lower()
        raise refuse(name or "FILE", reason, "a PNG file", "Correct its name.") from None
    return decode_png(data, name, size)


def _from_base64(text: str, where: str, size: tuple[int, int]) -> Pixels:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        expected = "the bytes of a PNG file as base64"
        raise refuse(where, "a text that is no base64", expected) from None
    return decode_png(data, where, size)


PARAMS: dict[str, tuple[int, int]] = {}
