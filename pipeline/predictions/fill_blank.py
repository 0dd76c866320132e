"""A blank filler's predictions: the pseudo-likelihood of every row, and the samples with their
blanks filled."""

from pathlib import Path
from typing import cast

import torch

from pipeline.contracts import BlankFiller
from pipeline.inference import Prediction
from pipeline.predictions import (
    PredictionRequest,
    Predictor,
    TrainedRun,
    load_filler,
    write_likelihood,
    write_outputs,
)
from pipeline.tasks import fill_blank
from pipeline.text.blanks import BLANK, encode_around_blanks
from pipeline.text.encode import Codec


def predict(request: PredictionRequest, out: Path) -> None:
    """Write `likelihood_<split>.parquet` for each split, and `samples.parquet` of the samples with
    one blank."""
    model = cast(BlankFiller, request.network())
    codec = Codec.load(request.vocab, fill_blank.SOURCE_TARGET[0])

    for split in request.splits():
        table = request.table(split, fill_blank.SCHEMA)
        nats, count = fill_blank.likelihood(model, table, request.device)
        write_likelihood(nats, count, table, out / f"likelihood_{split}.parquet")

    # Samples without a blank, or with several, are for other tasks.
    samples = [sample for sample in request.samples if sample.prompt.count(BLANK) == 1]
    predictions = (fill(model, codec, sample.prompt, request.device) for sample in samples)
    write_outputs(samples, predictions, out)


def fill(model: BlankFiller, codec: Codec, text: str, device: torch.device) -> Prediction:
    """Fill the text's only blank with the most likely word."""
    before, after = encode_around_blanks(codec, text)
    word, log_prob = fill_blank.fill(model, before, after, device)
    return Prediction(text.replace(BLANK, codec.decode([word]).strip()), log_prob, log_prob)


def load_predictor(run: TrainedRun) -> Predictor:
    """Rows `text` and `log_prob`: each text with its blank filled."""
    return load_filler(fill, "one blank,", lambda count: count == 1, run)


PARAMS: dict[str, tuple[int, int]] = {}
