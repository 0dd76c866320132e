"""A classifier's predictions: the label of every text, with the probabilities of all labels; and
texts given by hand."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import nn

from pipeline.core import config, params, tables
from pipeline.core.errors import refuse
from pipeline.inference import Prediction, batches, load_run, load_trained_model
from pipeline.predictions import PredictionRequest, write_outputs
from pipeline.tasks import classification
from pipeline.text import labels
from pipeline.text.encode import Codec
from pipeline.training import devices

NO_LABEL = Prediction("", -math.inf, -math.inf)
_MAX_TEXTS = 1024  # of a batch
# of a batch, padding counted: 79 MB for each layer of 300 float32 numbers a token
_MAX_TOKENS = 1 << 16


@dataclass(frozen=True, slots=True)
class Classifier:
    """A trained run with its vocabulary and the names of its labels."""

    model: nn.Module
    codec: Codec
    names: pa.StringArray
    objective: classification.Config
    device: torch.device

    @classmethod
    def open(cls, model: Path, vocab: Path, device: str = "auto") -> "Classifier":
        """The run in the folder `model` with its corpus's vocabulary."""
        run, where = load_run(model, None), str(model / "config.json")
        if run.task != "classification":
            raise refuse(
                "run", f"a model of the task {run.task}", "a classifier", "Name another run."
            )
        return cls.of(run, where, model, vocab, devices.choose(device, "device"))

    @classmethod
    def of(
        cls, run: params.Run, where: str, model: Path, vocab: Path, device: torch.device
    ) -> "Classifier":
        """As `open`, for the block `run`, called `where` in messages."""
        network = load_trained_model(run, where, model, vocab, device)
        objective = config.load(classification.Config, run.objective, f"{where}.objective")
        return cls(
            network,
            Codec.load(vocab, classification.SOURCE_TARGET[0]),
            labels.load(vocab),
            objective,
            device,
        )

    def classify(self, texts: Sequence[str]) -> list[Prediction]:
        """Each text's likeliest label and its log-probability; for a text without tokens no label,
        of probability 0."""
        answers = [NO_LABEL for _ in texts]
        ids = self.codec.encode(pa.array(texts, pa.string()))
        length = pc.list_value_length(ids).to_numpy(zero_copy_only=False)
        (places,) = length.nonzero()

        for batch in batches(length[places].tolist(), _MAX_TEXTS, _MAX_TOKENS):
            predicted = self.judged(pa.chunked_array([ids.take(pa.array(places[batch]))]))
            best = [max(row) for row in predicted["log_probs"].to_pylist()]
            for place, label, value in zip(
                places[batch], predicted["label"].to_pylist(), best, strict=True
            ):
                answers[place] = Prediction(label, value, value)
        return answers

    def judged(self, ids: pa.ChunkedArray) -> dict[str, Any]:
        """The likeliest label of each text, and the log-probabilities of all."""
        log_probs_BC = classification.log_probs(self.model, ids, self.objective, self.device)  # type: ignore[arg-type]
        return {
            "label": self.names.take(pa.array(log_probs_BC.argmax(1))),
            "log_probs": pa.FixedSizeListArray.from_arrays(
                log_probs_BC.ravel(), len(self.names)
            ).cast(tables.LABELS.field("log_probs").type),
        }


def predict(asked: PredictionRequest, out: Path) -> None:
    """Write `labels_<split>.parquet` for each split, `labels.json` (the labels' names in order) and
    `samples.parquet`."""
    classifier = Classifier.of(asked.run, asked.where, asked.model, asked.vocab, asked.device)
    (out / "labels.json").write_text(
        json.dumps(classifier.names.to_pylist(), indent=1) + "\n", encoding="utf-8"
    )
    for split in asked.splits():
        table = asked.table(split, classification.SCHEMA)
        found = pa.table(
            {"row": table["row"], **classifier.judged(table["ids"])}, schema=tables.LABELS
        )
        tables.write(out / f"labels_{split}.parquet", found)
    write_outputs(
        asked.samples, classifier.classify([sample.prompt for sample in asked.samples]), out
    )
