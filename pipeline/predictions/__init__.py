"""Predictions of a trained run: one module per task, with the task's name.

It exports `predict(request, out)` for the predict stage, and for serving `load_predictor(run)` and
PARAMS, the `params` that a request may have: whole numbers with their smallest and largest value.

Every task writes a table per split other than train (`likelihood_<split>.parquet`, ...), for valid
alone if `evaluation.test` is false, and `samples.parquet`. Only `pipeline/scoring/tasks/<task>.py`
and the report read what `pipeline/predictions/<task>.py` writes. This module has the code that
several tasks share."""

import json
import math
import numbers
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.contracts import Attentive
from pipeline.core import config, params, tables
from pipeline.core.errors import refuse
from pipeline.core.request_text import checked_text
from pipeline.inference import (
    EMPTY,
    Prediction,
    Session,
    attention_table,
    check_time,
    load_run,
    load_trained_model,
)
from pipeline.text.blanks import BLANK
from pipeline.text.encode import Codec, check_ids, describe
from pipeline.training import devices

_MAX_SHOWN = 60  # characters of an invalid text in a message


@dataclass(frozen=True, slots=True)
class PredictionRequest:
    """A run to predict with: its block (`where` is the block's name in messages), the folders to
    read, and the sample sentences. `test`: predict all splits, and not valid alone."""

    run: params.Run
    where: str
    model: Path
    encoded: Path
    vocab: Path
    samples: tuple[params.Sample, ...]
    device: torch.device
    test: bool

    def splits(self) -> list[str]:
        """All splits other than train, or valid alone without `test`; UserError if there is
        none."""
        splits = sorted({file.stem for file in self.encoded.glob("*.parquet")} - {"train"})
        if not self.test:
            splits = [split for split in splits if split == "valid"]
        if not splits:
            raise refuse(
                str(self.encoded),
                "no split to predict",
                "the encode stage's tables",
                "Run `dvc repro`.",
            )
        return splits

    def table(self, split: str, schema: pa.Schema) -> pa.Table:
        """Read a split's encoded rows; UserError for ids beyond the vocabulary."""
        path = self.encoded / f"{split}.parquet"
        table = tables.read(path, schema)
        check_ids(table, describe(self.vocab).sizes, path)
        return table

    def network(self) -> nn.Module:
        """Load the trained model, for tasks without a search."""
        return load_trained_model(self.run, self.where, self.model, self.vocab, self.device)

    def objective(self, task: ModuleType) -> Any:
        """The run's block `objective` as the task's Config; None for a model that is fitted without
        gradients."""
        if self.run.objective is None:
            return None
        return config.load_objective(task, self.run.objective, f"{self.where}.objective")

    def session(self) -> Session:
        """Load the trained model with its vocabulary and search."""
        return Session.of(self.run, self.where, self.model, self.vocab, self.device)


def write_likelihood(
    nats: NDArray[np.float64], count: NDArray[np.int32], table: pa.Table, out: Path
) -> None:
    """Write `tables.LIKELIHOOD`: -log P and number of tokens of every row of an encoded table."""
    columns = [table["row"], pa.array(nats), pa.array(count, pa.int32())]
    tables.write(out, pa.table(columns, schema=tables.LIKELIHOOD))


def score_split(request: PredictionRequest, session: Session, split: str, out: Path) -> pa.Table:
    """Write `likelihood_<split>.parquet` of a model with a search; return the encoded table."""
    table = request.table(split, session.task.SCHEMA)
    nats, count = session.task.likelihood(
        session.model, table, request.objective(session.task), request.device
    )
    write_likelihood(nats, count, table, out / f"likelihood_{split}.parquet")
    return table


def write_outputs(
    samples: Sequence[params.Sample], predictions: Iterable[Prediction], out: Path
) -> None:
    """Write `samples.parquet`: the samples with their predictions."""
    rows = [
        {
            "row": row,
            "prompt": sample.prompt,
            "reference": sample.reference,
            "text": prediction.text,
            "log_prob": prediction.log_prob,
        }
        for row, (sample, prediction) in enumerate(zip(samples, predictions, strict=True))
    ]
    tables.write(out / "samples.parquet", pa.Table.from_pylist(rows, tables.SAMPLES))


def write_samples(session: Session, samples: Sequence[params.Sample], out: Path) -> None:
    """Write the search's output for each sample, and `attention.parquet` if the model is attentive.

    A translation of a sample without tokens is empty, as in `Session.translate`; a language model
    continues it."""
    texts = [sample.prompt for sample in samples]
    if session.continues_prompt:
        numbers = list(range(len(texts)))
    else:
        numbers = session.positions_with_tokens(texts)
    if not numbers:
        write_outputs(samples, [EMPTY for _ in samples], out)
        return

    # All samples are one batch, whatever their number.
    prompt = session.prompt([texts[number] for number in numbers])
    best = [n_best[0] for n_best in session.run_search(prompt, session.generator())]

    predictions = dict(zip(numbers, session.decode_hypotheses(best), strict=True))
    write_outputs(samples, [predictions.get(row, EMPTY) for row in range(len(texts))], out)
    if isinstance(session.model, Attentive):
        attention = attention_table(session.attention_weights(prompt, best), numbers)
        tables.write(out / "attention.parquet", attention)


# --- labels

NO_LABEL = Prediction("", -math.inf, -math.inf)  # of a text without tokens


def label_columns(log_probs_NC: NDArray[np.float64], names: pa.StringArray) -> dict[str, pa.Array]:
    """Columns of `tables.LABELS` but `row`: the most likely label of each row, and the
    log-probabilities of all labels."""
    return {
        "label": names.take(pa.array(log_probs_NC.argmax(1))),
        "log_probs": pa.FixedSizeListArray.from_arrays(log_probs_NC.ravel(), len(names)).cast(
            tables.LABELS.field("log_probs").type
        ),
    }


def label_predictions(columns: Mapping[str, pa.Array]) -> list[Prediction]:
    """The most likely label of each row of `label_columns`, with its log-probability."""
    best = [max(row) for row in columns["log_probs"].to_pylist()]
    return [
        Prediction(label, log_prob, log_prob)
        for label, log_prob in zip(columns["label"].to_pylist(), best, strict=True)
    ]


def label_row(prediction: Prediction) -> "Row":
    """The row of a prediction that is a label, with its probability."""
    return {"label": prediction.text, "probability": math.exp(prediction.log_prob)}


def write_labels(
    request: PredictionRequest,
    names: pa.StringArray,
    schema: pa.Schema,
    predict: Callable[[str, pa.Table], Mapping[str, pa.Array]],
    out: Path,
) -> None:
    """Write `labels.json` (the labels' names in order) and `labels_<split>.parquet` for each split,
    with the columns that `predict` gives for the split and its encoded table."""
    text = json.dumps(names.to_pylist(), indent=1)
    (out / "labels.json").write_text(text + "\n", encoding="utf-8")
    for split in request.splits():
        table = request.table(split, schema)
        columns = {"row": table["row"], **predict(split, table)}
        tables.write(out / f"labels_{split}.parquet", pa.table(columns, schema=tables.LABELS))


# --- serving

Row = dict[str, Any]
Predictor = Callable[[Sequence[str], Mapping[str, Any]], list[Row]]
"""`predictor(texts, settings)` returns rows. The task decides which settings there are; the
defaults are the run's."""


@dataclass(frozen=True, slots=True)
class TrainedRun:
    """The folders of a model and its vocabulary, the block `search`, and the device."""

    model: Path
    vocab: Path
    search: dict[str, Any] | None
    device: str

    def request(self) -> PredictionRequest:
        """The request of the predict stage, without a corpus."""
        return PredictionRequest(
            run=load_run(self.model, self.search),
            where=str(self.model / "config.json"),
            model=self.model,
            encoded=Path(),
            vocab=self.vocab,
            samples=(),
            device=devices.choose(self.device, "compute.device"),
            test=False,
        )


def load_predictor(task: str, run: TrainedRun) -> Predictor:
    """Load a run for serving; UserError for an unknown task, or a vocabulary other than the
    model's."""
    module = config.named_module("pipeline.predictions", task, "task")
    predictor: Predictor = module.load_predictor(run)

    def predict(texts: Sequence[Any], settings: Mapping[str, Any]) -> list[Row]:
        return predictor(checked_texts(texts), checked_settings(task, settings, module.PARAMS))

    return predict


def open_classifier(
    run: TrainedRun, pairs: bool = False
) -> Callable[[Sequence[str]], list[Prediction]]:
    """Open a run as a function from the texts of a command to their labels; UserError for another
    task, and for `pairs` of texts if the task has single ones."""
    task = load_run(run.model, run.search).task
    module = config.named_module("pipeline.predictions", task, "task")
    if not hasattr(module, "open_classifier"):
        raise refuse("run", f"a model of the task {task}", "a classifier", "Name another run.")
    if pairs and config.named_module("pipeline.tasks", task, "task").KIND != "labelled_pair":
        raise refuse("HYPOTHESIS", "a second text", f"one text for the task {task}", "Remove it.")
    classify: Callable[[Sequence[str]], list[Prediction]] = module.open_classifier(run)
    return classify


def checked_texts(texts: Sequence[Any]) -> list[str]:
    """Return the texts of a request; UserError, with its index, for the first that is not a
    text."""
    return [checked_text(text, f"inputs[{number}]") for number, text in enumerate(texts)]


def checked_settings(
    task: str, settings: Mapping[str, Any], ranges: Mapping[str, tuple[int, int]]
) -> dict[str, int]:
    """Return the `params` of a request; UserError for an unknown name, or a value that is not a
    whole number in its range."""
    for name, value in settings.items():
        if name not in ranges:
            expected = f"no params, because {task} has none"
            if ranges:
                expected = "one of " + ", ".join(ranges)
            todo = config.nearest(name, list(ranges)) or "Remove it."
            raise refuse("params", f"the unknown name {str(name)[:60]!r}", expected, todo)

        least, largest = ranges[name]
        # JSON's true is an int in Python. NumPy's integers are Integral too.
        is_integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        if not is_integer or not least <= value <= largest:
            shown = str(value) if is_integer else repr(value)
            raise refuse(name, shown[:60], f"a whole number from {least} to {largest}")
    return {str(name): int(value) for name, value in settings.items()}


def load_filler(
    fill: Callable[[Any, Codec, str, torch.device], Prediction],
    blanks: str,
    is_valid: Callable[[int], bool],
    run: TrainedRun,
) -> Predictor:
    """Rows `text`, with the blanks filled, and `log_prob` of the words; an empty text for a text
    without tokens.

    `is_valid` checks the number of blanks; `blanks` describes that number in messages."""

    request = run.request()
    model = request.network()
    codec = Codec.load(run.vocab, "text")

    def fill_in_time(text: str) -> Prediction:
        check_time()
        return fill(model, codec, text, request.device)

    def predict(texts: Sequence[str], settings: Mapping[str, Any]) -> list[Row]:
        # Check all texts before the first is filled.
        tokens = codec.encode(pa.array(texts, pa.string())).to_pylist()
        for text, ids in zip(texts, tokens, strict=True):
            if ids and not is_valid(text.count(BLANK)):
                shown = text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "..."
                raise refuse("text", shown, f"a text with {blanks} written {BLANK}")

        return [
            text_row(fill_in_time(text) if ids else EMPTY)
            for text, ids in zip(texts, tokens, strict=True)
        ]

    return predict


def text_row(prediction: Prediction) -> Row:
    """The row of a prediction that is a text."""
    return {"text": prediction.text, "log_prob": prediction.log_prob}
