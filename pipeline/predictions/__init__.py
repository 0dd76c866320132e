"""Predictions of a trained run: one module per task, with the task's name.

It exports `predict(request, out)` for the predict stage. For `pipeline.predictor` it exports
`load_predictor(run)` and PARAMS, the `params` that a request may have: whole numbers with their
smallest and largest value.

Every task writes a table per split other than train (`likelihood_<split>.parquet`, ...), for valid
alone if `evaluation.test` is false, and `samples.parquet`. Only `pipeline/scoring/tasks/<task>.py`
and the report read what `pipeline/predictions/<task>.py` writes. This module has the code that
several tasks share."""

import json
import math
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
from pipeline.inference import (
    EMPTY,
    AttentionWeights,
    Prediction,
    Session,
    check_time,
    load_run,
    load_trained_model,
)
from pipeline.text.blanks import BLANK
from pipeline.text.encode import Codec, check_ids, describe
from pipeline.text.input_codec import input_codec
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


def attention_table(attention: Sequence[AttentionWeights], numbers: Sequence[int]) -> pa.Table:
    """`tables.ATTENTION`: a row per sample, with its number, and named weights."""
    rows = [
        {
            "row": number,
            "name": name,
            "columns": sample.columns,
            "rows": sample.rows,
            "weights": weights.ravel(),
        }
        for number, sample in zip(numbers, attention, strict=True)
        for name, weights in sample.weights.items()
    ]
    return pa.Table.from_pylist(rows, tables.ATTENTION)


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


@dataclass(frozen=True, slots=True)
class Filler:
    """A trained run that fills the blanks of texts.

    `log_probs(model, codec, text, device)` are log_probs_NV of the text's N blanks. `is_valid`
    checks the number of blanks; `blanks` describes that number in messages."""

    model: Any
    codec: Codec
    device: torch.device
    log_probs: Callable[[Any, Codec, str, torch.device], torch.Tensor]
    blanks: str
    is_valid: Callable[[int], bool]

    @classmethod
    def of(
        cls,
        request: PredictionRequest,
        log_probs: Callable[[Any, Codec, str, torch.device], torch.Tensor],
        blanks: str,
        is_valid: Callable[[int], bool],
    ) -> "Filler":
        """Load the run of the request."""
        codec = input_codec(request.vocab, "text")
        return cls(request.network(), codec, request.device, log_probs, blanks, is_valid)

    def fill(self, text: str) -> Prediction:
        """Fill each blank with the most likely word."""
        best = self.log_probs(self.model, self.codec, text, self.device).max(-1)
        words = [self.codec.decode([word]).strip() for word in best.indices.tolist()]
        beginning, *parts = text.split(BLANK)
        filled = beginning + "".join(word + part for word, part in zip(words, parts, strict=True))
        log_prob = float(best.values.sum())
        return Prediction(filled, log_prob, log_prob)

    def words(self, text: str, count: int) -> list[list[Prediction]]:
        """The `count` most likely words for each blank, best first."""
        log_probs_NV = self.log_probs(self.model, self.codec, text, self.device)
        best = log_probs_NV.sort(stable=True, dim=-1, descending=True)
        return [
            [
                Prediction(self.codec.decode([word]).strip(), log_prob, log_prob)
                for word, log_prob in zip(words[:count], log_probs[:count], strict=True)
            ]
            for words, log_probs in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]

    def has_tokens(self, texts: Sequence[str]) -> list[bool]:
        """Whether each text has tokens; UserError for one that has, but an invalid number of
        blanks."""
        tokens = self.codec.encode(pa.array(texts, pa.string())).to_pylist()
        for text, ids in zip(texts, tokens, strict=True):
            if ids and not self.is_valid(text.count(BLANK)):
                raise refuse("text", shortened(text), f"a text with {self.blanks} written {BLANK}")
        return [bool(ids) for ids in tokens]

    def predict(self, texts: Sequence[str], settings: Mapping[str, Any]) -> list[Row]:
        """Rows `text`, with the blanks filled, and `log_prob` of the words; an empty text for a
        text without tokens."""
        rows = []
        # Check all texts before the first is filled.
        for text, has_tokens in zip(texts, self.has_tokens(texts), strict=True):
            check_time()
            rows.append(text_row(self.fill(text) if has_tokens else EMPTY))
        return rows


def text_row(prediction: Prediction) -> Row:
    """The row of a prediction that is a text."""
    return {"text": prediction.text, "log_prob": prediction.log_prob}


def shortened(text: str) -> str:
    """The beginning of an invalid text, for a message."""
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "..."
