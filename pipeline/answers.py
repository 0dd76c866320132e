"""A trained run of any task, loaded once, from texts to rows: the interface of serving to
models."""

import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from pipeline.core import config, params
from pipeline.core.errors import refuse
from pipeline.inference import (
    EMPTY,
    LARGEST_N_BEST,
    OutOfTime,
    Prediction,
    Session,
    check_time,
    load_run,
    time_limit,
)
from pipeline.predictions import (
    BLANK,
    PredictionRequest,
    fill_blank,
    masked_language_model,
    word_vectors,
)
from pipeline.predictions.classification import Classifier
from pipeline.text.encode import Codec
from pipeline.texts import checked_text
from pipeline.training import devices

__all__ = ["OutOfTime", "Predictor", "TrainedRun", "load_predictor", "time_limit"]

_MAX_SHOWN = 60  # characters of an invalid text in a message

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
        )


def load_predictor(task: str, run: TrainedRun) -> Predictor:
    """Load a run for serving; UserError for an unknown task, or a vocabulary other than the
    model's."""
    if task not in PREDICTORS:
        expected = "one of " + ", ".join(PREDICTORS)
        raise refuse("task", task, expected, "Add the task to pipeline/answers.py.")
    predictor = PREDICTORS[task](run)

    def predict(texts: Sequence[Any], settings: Mapping[str, Any]) -> list[Row]:
        return predictor(checked_texts(texts), checked_settings(task, settings))

    return predict


def checked_texts(texts: Sequence[Any]) -> list[str]:
    """Return the texts of a request; UserError, with its index, for the first that is not a
    text."""
    return [checked_text(text, f"inputs[{number}]") for number, text in enumerate(texts)]


def checked_settings(task: str, settings: Mapping[str, Any]) -> dict[str, int]:
    """Return the `params` of a request; UserError for an unknown name, or a value that is not a
    whole number in its range."""
    ranges = SETTINGS[task]

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


def _translator(run: TrainedRun) -> Predictor:
    """Rows `row` (the text's index), `text` and `log_prob`: for each text `n_best` translations,
    best first; for a text without tokens one row with an empty text."""
    session = Session.open(run.model, run.vocab, run.search, run.device)

    def predict(texts: Sequence[str], settings: Mapping[str, Any]) -> list[Row]:
        # The run's own n_best is that of its evaluation; a request gets 1 by default.
        n_best = settings.get("n_best", 1)
        translations = session.translate(texts, n_best)
        return [
            {"row": row, **_text_row(prediction)}
            for row, predictions in enumerate(translations)
            for prediction in predictions[:n_best]
        ]

    return predict


def _language_model(run: TrainedRun) -> Predictor:
    """Rows `text`: each prefix with its continuation; `seed` changes the texts of a search that
    samples."""
    session = Session.open(run.model, run.vocab, run.search, run.device)

    def predict(texts: Sequence[str], settings: Mapping[str, Any]) -> list[Row]:
        return [{"text": text} for text in session.generate(texts, settings.get("seed"))]

    return predict


def _classifier(run: TrainedRun) -> Predictor:
    """Rows `label` (the most likely one) and `probability`; for a text without tokens an empty
    label of probability 0."""
    classifier = Classifier.open(run.model, run.vocab, run.device)

    def predict(texts: Sequence[str], settings: Mapping[str, Any]) -> list[Row]:
        return [
            {"label": prediction.text, "probability": math.exp(prediction.log_prob)}
            for prediction in classifier.classify(texts)
        ]

    return predict


def _filler(
    fill: Callable[[Any, Codec, str, torch.device], Prediction],
    blanks: str,
    is_valid: Callable[[int], bool],
) -> Callable[[TrainedRun], Predictor]:
    """Rows `text`, with the blanks filled, and `log_prob` of the words; an empty text for a text
    without tokens.

    `is_valid` checks the number of blanks; `blanks` describes that number in messages."""

    def load(run: TrainedRun) -> Predictor:
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
                _text_row(fill_in_time(text) if ids else EMPTY)
                for text, ids in zip(texts, tokens, strict=True)
            ]

        return predict

    return load


def _vectors(run: TrainedRun) -> Predictor:
    """Rows `text`: the rarest words of each text with their nearest neighbours, `king: queen,
    prince`."""
    table = word_vectors.vectors(run.request())
    codec = Codec.load(run.vocab, "text")

    def predict(texts: Sequence[str], settings: Mapping[str, Any]) -> list[Row]:
        queries = [params.Sample(prompt=text, reference=None) for text in texts]
        neighbours = word_vectors.samples(queries, table, codec)
        return [{"text": text} for text in neighbours["text"].to_pylist()]

    return predict


def _text_row(prediction: Prediction) -> Row:
    return {"text": prediction.text, "log_prob": prediction.log_prob}


PREDICTORS: dict[str, Callable[[TrainedRun], Predictor]] = {
    "translation": _translator,
    "language_model": _language_model,
    "classification": _classifier,
    "fill_blank": _filler(fill_blank.fill, "one blank,", lambda count: count == 1),
    "masked_language_model": _filler(
        masked_language_model.fill, "blanks,", lambda count: count > 0
    ),
    "word_vectors": _vectors,
}

SETTINGS: dict[str, dict[str, tuple[int, int]]] = {
    **{task: {} for task in PREDICTORS},
    "translation": {"n_best": (1, LARGEST_N_BEST)},
    "language_model": {"seed": (-(2**63), 2**63 - 1)},
}
"""The `params` of a request, by task: whole numbers with their smallest and largest value."""
