"""A classifier's predictions: the label of every text, with the log-probabilities of all labels;
and labels of texts from users."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import nn

from pipeline.contracts import Refitted
from pipeline.core import config, params, tables
from pipeline.inference import Prediction, batches, input_codec, load_run, load_trained_model
from pipeline.predictions import (
    NO_LABEL,
    PredictionRequest,
    Predictor,
    Row,
    TrainedRun,
    label_columns,
    label_row,
    write_label_names,
    write_outputs,
)
from pipeline.tasks import classification
from pipeline.text import labels
from pipeline.text.encode import Codec
from pipeline.training import devices

_MAX_TEXTS = 1024  # of a batch
# Tokens of a batch, with padding: 79 MB per layer of 300 float32 values per token.
_MAX_TOKENS = 1 << 16


@dataclass(frozen=True, slots=True)
class Classifier:
    """A trained run with its vocabulary and the names of its labels."""

    model: nn.Module
    codec: Codec
    names: pa.StringArray
    objective: classification.Config | None
    device: torch.device

    @classmethod
    def open(cls, model: Path, vocab: Path, device: str = "auto") -> "Classifier":
        """Load the run in the folder `model` with its corpus's vocabulary."""
        run = load_run(model, None)
        where = str(model / "config.json")
        return cls.of(run, where, model, vocab, devices.choose(device, "device"))

    @classmethod
    def of(
        cls, run: params.Run, where: str, model: Path, vocab: Path, device: torch.device
    ) -> "Classifier":
        """As `open`, for the block `run`; `where` is its name in messages."""
        network = load_trained_model(run, where, model, vocab, device)
        objective = None
        if run.objective is not None:
            objective = config.load(classification.Config, run.objective, f"{where}.objective")
        return cls(
            network,
            input_codec(vocab, classification.SOURCE_TARGET[0]),
            labels.load(vocab),
            objective,
            device,
        )

    def classify(self, texts: Sequence[str]) -> list[Prediction]:
        """The most likely label of each text with its log-probability; NO_LABEL for a text without
        tokens."""
        predictions = [NO_LABEL for _ in texts]
        ids = self.codec.encode(pa.array(texts, pa.string()))
        length = pc.list_value_length(ids).to_numpy(zero_copy_only=False)
        (positions,) = length.nonzero()

        for batch in batches(length[positions].tolist(), _MAX_TEXTS, _MAX_TOKENS):
            batch_ids = ids.take(pa.array(positions[batch]))
            columns = self.predict_labels(pa.chunked_array([batch_ids]))
            best = [max(row) for row in columns["log_probs"].to_pylist()]
            labels_of_batch = columns["label"].to_pylist()
            for position, label, log_prob in zip(
                positions[batch], labels_of_batch, best, strict=True
            ):
                predictions[position] = Prediction(label, log_prob, log_prob)
        return predictions

    def for_split(self, split: str) -> "Classifier":
        """The classifier that predicts the split: of validation texts, one that was not fitted to
        them."""
        if split != "valid" or not isinstance(self.model, Refitted):
            return self
        return dataclasses.replace(self, model=self.model.before_refit())

    def predict_labels(self, ids: pa.ChunkedArray) -> dict[str, Any]:
        """Columns of LABELS: the most likely label of each text, and the log-probabilities of all
        labels."""
        log_probs_BC = classification.log_probs(self.model, ids, self.objective, self.device)  # type: ignore[arg-type]
        return label_columns(log_probs_BC, self.names)


def predict(request: PredictionRequest, out: Path) -> None:
    """Write `labels_<split>.parquet` for each split, `labels.json` (the labels' names in order) and
    `samples.parquet`."""
    classifier = Classifier.of(
        request.run, request.where, request.model, request.vocab, request.device
    )
    write_label_names(classifier.names, out)
    for split in request.splits():
        table = request.table(split, classification.SCHEMA)
        columns = {"row": table["row"], **classifier.for_split(split).predict_labels(table["ids"])}
        tables.write(out / f"labels_{split}.parquet", pa.table(columns, schema=tables.LABELS))

    write_outputs(
        request.samples, classifier.classify([sample.prompt for sample in request.samples]), out
    )


def open_classifier(run: TrainedRun) -> Callable[[Sequence[str]], list[Prediction]]:
    """Open a run as a function from texts to their labels; NO_LABEL for a text without tokens."""
    return Classifier.open(run.model, run.vocab, run.device).classify


def load_predictor(run: TrainedRun) -> Predictor:
    """Rows `label` (the most likely one) and `probability`; for a text without tokens an empty
    label of probability 0."""
    classifier = Classifier.open(run.model, run.vocab, run.device)

    def predict(texts: Sequence[str], settings: Mapping[str, Any]) -> list[Row]:
        return [label_row(prediction) for prediction in classifier.classify(texts)]

    return predict


PARAMS: dict[str, tuple[int, int]] = {}
