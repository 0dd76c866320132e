"""A language model's predictions: the likelihood of every row, and continuations of the samples."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.inference import Session
from pipeline.predictions import (
    PredictionRequest,
    Predictor,
    Row,
    TrainedRun,
    score_split,
    write_samples,
)
from pipeline.text.blanks import BLANK


def predict(request: PredictionRequest, out: Path) -> None:
    """Write `likelihood_<split>.parquet` for each split, and `samples.parquet`."""
    session = request.session()
    for split in request.splits():
        score_split(request, session, split, out)

    samples = [sample for sample in request.samples if BLANK not in sample.prompt]
    write_samples(session, samples, out)


def load_predictor(run: TrainedRun) -> Predictor:
    """Rows `text`: each prefix with its continuation; `seed` changes the texts of a search that
    samples."""
    session = Session.open(run.model, run.vocab, run.search, run.device)

    def predict(texts: Sequence[str], settings: Mapping[str, Any]) -> list[Row]:
        return [{"text": text} for text in session.generate(texts, settings.get("seed"))]

    return predict


PARAMS: dict[str, tuple[int, int]] = {"seed": (-(2**63), 2**63 - 1)}
