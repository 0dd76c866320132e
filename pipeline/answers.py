"""A trained run of any task, loaded once: texts in, rows out. All that serving knows of models."""

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

_SHOWN = 60  # characters of a wrong text that a message repeats

Row = dict[str, Any]
Predictor = Callable[[Sequence[str], Mapping[str, Any]], list[Row]]
"""`answering(texts, settings)`; which settings there are depends on the task, and those that are
not given are the run's."""


@dataclass(frozen=True, slots=True)
class TrainedRun:
    """The folders of a model and its vocabulary, the `search:` to use, and where to compute."""

    model: Path
    vocab: Path
    search: dict[str, Any] | None
    device: str

    def request(self) -> PredictionRequest:
        """As the predict stage would ask it, about no corpus."""
        run = load_run(self.model, self.search)
        device = devices.choose(self.device, "compute.device")
        return PredictionRequest(
            run, str(self.model / "config.json"), self.model, Path(), self.vocab, (), device
        )


def load_predictor(task: str, run: TrainedRun) -> Predictor:
    """The run, ready to answer; UserError for a task that is unknown here, or folders that do not
    fit each other."""
    if task not in KINDS:
        raise refuse(
            "task", task, "one of " + ", ".join(KINDS), "Teach pipeline/answers.py what it answers."
        )
    answer = KINDS[task](run)

    def checked(texts: Sequence[Any], settings: Mapping[str, Any]) -> list[Row]:
        return answer(checked_texts(texts), checked_settings(task, settings))

    return checked


def checked_texts(texts: Sequence[Any]) -> list[str]:
    """Return the texts of a request; UserError, with its number from 0, for the first that is not a
    text."""
    return [checked_text(text, f"inputs[{number}]") for number, text in enumerate(texts)]


def checked_settings(task: str, settings: Mapping[str, Any]) -> dict[str, int]:
    """Return the `params` of a request; UserError for an unknown name, or a value that is no whole
    number in its range."""
    ranges = SETTINGS[task]
    for name, value in settings.items():
        if name not in ranges:
            expected = (
                "one of " + ", ".join(ranges) if ranges else f"no params, of which {task} has none"
            )
            todo = config.nearest(name, list(ranges)) or "Remove it."
            raise refuse("params", f"the unknown name {str(name)[:60]!r}", expected, todo)

        least, largest = ranges[name]
        is_integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        if not is_integer or not least <= value <= largest:
            shown = str(value) if is_integer else repr(value)
            raise refuse(name, shown[:60], f"a whole number from {least} to {largest}")
    return {str(name): int(value) for name, value in settings.items()}


def _translator(run: TrainedRun) -> Predictor:
    """Rows of `row` (the text's number), `text` and `log_prob`, best first; `n_best` of them for
    each text, and one, which is empty, for a text without tokens."""
    session = Session.open(run.model, run.vocab, run.search, run.device)

    def answer(texts: Sequence[str], settings: Mapping[str, Any]) -> list[Row]:
        n_best = settings.get("n_best", 1)
        found = session.translate(texts, n_best)
        return [
            {"row": row, **_said(one)}
            for row, answers in enumerate(found)
            for one in answers[:n_best]
        ]

    return answer


def _language_model(run: TrainedRun) -> Predictor:
    """Each prefix with what comes next, as `text`; another `seed`, another text where the search
    samples."""
    session = Session.open(run.model, run.vocab, run.search, run.device)

    def answer(texts: Sequence[str], settings: Mapping[str, Any]) -> list[Row]:
        return [{"text": text} for text in session.generate(texts, settings.get("seed"))]

    return answer


def _classifier(run: TrainedRun) -> Predictor:
    """Each text's likeliest `label` and its `probability`; for a text without tokens an empty label
    of probability 0."""
    classifier = Classifier.open(run.model, run.vocab, run.device)

    def answer(texts: Sequence[str], settings: Mapping[str, Any]) -> list[Row]:
        return [
            {"label": one.text, "probability": math.exp(one.log_prob)}
            for one in classifier.classify(texts)
        ]

    return answer


def _filler(
    fill: Callable[[Any, Codec, str, torch.device], Prediction],
    blanks: str,
    fits: Callable[[int], bool],
) -> Callable[[TrainedRun], Predictor]:
    """Each text with its blanks filled in, as `text`, and the words' `log_prob`; `blanks` says how
    many may be there. A text without tokens has an empty answer."""

    def open_run(run: TrainedRun) -> Predictor:
        asked = run.request()
        model, codec = asked.network(), Codec.load(run.vocab, "text")

        def filled(text: str) -> Prediction:
            check_time()
            return fill(model, codec, text, asked.device)

        def answer(texts: Sequence[str], settings: Mapping[str, Any]) -> list[Row]:
            tokens = codec.encode(pa.array(texts, pa.string())).to_pylist()
            for text, ids in zip(texts, tokens, strict=True):
                if ids and not fits(text.count(BLANK)):
                    shown = text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
                    raise refuse("text", shown, f"a text with {blanks} written {BLANK}")
            return [
                _said(filled(text) if ids else EMPTY)
                for text, ids in zip(texts, tokens, strict=True)
            ]

        return answer

    return open_run


def _vectors(run: TrainedRun) -> Predictor:
    """Of each text its rarest words with their nearest neighbours, as `text`: `king: queen,
    prince`."""
    table, codec = word_vectors.vectors(run.request()), Codec.load(run.vocab, "text")

    def answer(texts: Sequence[str], settings: Mapping[str, Any]) -> list[Row]:
        asked = tuple(params.Sample(prompt=text, reference=None) for text in texts)
        return [
            {"text": text} for text in word_vectors.samples(asked, table, codec)["text"].to_pylist()
        ]

    return answer


def _said(answer: Prediction) -> Row:
    return {"text": answer.text, "log_prob": answer.log_prob}


KINDS: dict[str, Callable[[TrainedRun], Predictor]] = {
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
    **{task: {} for task in KINDS},
    "translation": {"n_best": (1, LARGEST_N_BEST)},
    "language_model": {"seed": (-(2**63), 2**63 - 1)},
}
"""The `params` that a request may have, by task: whole numbers with their least and largest
value."""
