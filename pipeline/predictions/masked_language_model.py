"""A masked language model's predictions: masked words, next sentences, and the samples with their
blanks filled."""

from pathlib import Path

import pyarrow as pa
import torch
from torch import Tensor

from pipeline.contracts import MASK, MaskedLanguageModel
from pipeline.core import tables
from pipeline.predictions import (
    Filler,
    PredictionRequest,
    Predictor,
    TrainedRun,
    write_outputs,
)
from pipeline.tasks import masked_language_model as mlm
from pipeline.text.blanks import BLANK, encode_around_blanks
from pipeline.text.encode import Codec


def predict(request: PredictionRequest, out: Path) -> None:
    """Write `masked_<split>.parquet` for each split, and `samples.parquet` of the samples with a
    blank."""
    filler = _filler(request)
    for split in request.splits():
        table = request.table(split, mlm.SCHEMA)
        scores = mlm.score(filler.model, table, request.objective(mlm), request.device)
        columns = [pa.array(scores[field.name]).cast(field.type) for field in tables.MASKED]
        tables.write(out / f"masked_{split}.parquet", pa.table(columns, schema=tables.MASKED))

    samples = [sample for sample in request.samples if BLANK in sample.prompt]
    write_outputs(samples, (filler.fill(sample.prompt) for sample in samples), out)


@torch.inference_mode()
def log_probs(model: MaskedLanguageModel, codec: Codec, text: str, device: torch.device) -> Tensor:
    """log_probs_NV of the word (piece, for bpe) in each of N blanks, independently."""
    beginning, *parts = encode_around_blanks(codec, text)
    ids = list(beginning)
    for part in parts:
        ids += [MASK, *part]
    prompt, segment_BS = mlm.prompt(pa.array([ids], pa.list_(pa.int32())), device)

    # Predict all blanks in one pass: a prediction does not see the others.
    hidden_BSH = model.read(prompt, segment_BS)
    return model.project(hidden_BSH[prompt.ids_BS == MASK]).float().log_softmax(-1)


def _filler(request: PredictionRequest) -> Filler:
    return Filler.of(request, log_probs, "blanks,", lambda count: count > 0)


def open_filler(run: TrainedRun) -> Filler:
    """Open a run to fill the blanks of a text."""
    return _filler(run.request())


def load_predictor(run: TrainedRun) -> Predictor:
    """Rows `text` and `log_prob`: each text with its blanks filled."""
    return open_filler(run).predict


PARAMS: dict[str, tuple[int, int]] = {}
