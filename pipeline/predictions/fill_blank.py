"""A blank filler's predictions: every row's pseudo-likelihood, and the samples' blanks filled
in."""

from pathlib import Path
from typing import cast

import torch

from pipeline.contracts import BlankFiller
from pipeline.inference import Prediction
from pipeline.predictions import (
    BLANK,
    PredictionRequest,
    encode_around_blanks,
    write_outputs,
    write_likelihood,
)
from pipeline.tasks import fill_blank
from pipeline.text.encode import Codec


def predict(asked: PredictionRequest, out: Path) -> None:
    """Write `likelihood_<split>.parquet` for each split, and `samples.parquet` of the samples that
    have one blank."""
    model, codec = (
        cast(BlankFiller, asked.network()),
        Codec.load(asked.vocab, fill_blank.SOURCE_TARGET[0]),
    )
    for split in asked.splits():
        table = asked.table(split, fill_blank.SCHEMA)
        nats, count = fill_blank.likelihood(model, table, asked.device)
        write_likelihood(nats, count, table, out / f"likelihood_{split}.parquet")
    fitting = [sample for sample in asked.samples if sample.prompt.count(BLANK) == 1]
    write_outputs(
        fitting, (fill(model, codec, sample.prompt, asked.device) for sample in fitting), out
    )


def fill(model: BlankFiller, codec: Codec, text: str, device: torch.device) -> Prediction:
    """The likeliest word in the place of the text's one blank."""
    before, after = encode_around_blanks(codec, text)
    word, log_prob = fill_blank.fill(model, before, after, device)
    return Prediction(text.replace(BLANK, codec.decode([word]).strip()), log_prob, log_prob)
