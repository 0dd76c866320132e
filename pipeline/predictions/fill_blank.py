"""A blank filler's predictions: the pseudo-likelihood of every row, and the samples with their
blanks filled."""

from pathlib import Path

import torch
from torch import Tensor

from pipeline.contracts import BlankFiller
from pipeline.predictions import (
    Filler,
    PredictionRequest,
    Predictor,
    TrainedRun,
    write_likelihood,
    write_outputs,
)
from pipeline.tasks import fill_blank
from pipeline.text.blanks import BLANK, encode_around_blanks
from pipeline.text.encode import Codec


def predict(request: PredictionRequest, out: Path) -> None:
    """Write `likelihood_<split>.parquet` for each split, and `samples.parquet` of the samples with
    one blank."""
    filler = _filler(request)
    for split in request.splits():
        table = request.table(split, fill_blank.SCHEMA)
        nats, count = fill_blank.likelihood(filler.model, table, request.device)
        write_likelihood(nats, count, table, out / f"likelihood_{split}.parquet")

    # Samples without a blank, or with several, are for other tasks.
    samples = [sample for sample in request.samples if sample.prompt.count(BLANK) == 1]
    write_outputs(samples, (filler.fill(sample.prompt) for sample in samples), out)


def log_probs(model: BlankFiller, codec: Codec, text: str, device: torch.device) -> Tensor:
    """log_probs_1V of the word in the text's only blank."""
    before, after = encode_around_blanks(codec, text)
    return fill_blank.log_probs(model, before, after, device)[None]


def _filler(request: PredictionRequest) -> Filler:
    return Filler.of(request, log_probs, "one blank,", lambda count: count == 1)


def open_filler(run: TrainedRun) -> Filler:
    """Open a run to fill the only blank of a text."""
    return _filler(run.request())


def load_predictor(run: TrainedRun) -> Predictor:
    """Rows `text` and `log_prob`: each text with its blank filled."""
    return open_filler(run).predict


PARAMS: dict[str, tuple[int, int]] = {}
