"""A masked language model's predictions: masked words, next sentences, and the samples with their
blanks filled."""

from pathlib import Path
from typing import cast

import pyarrow as pa
import torch

from pipeline.contracts import MASK, MaskedLanguageModel
from pipeline.core import tables
from pipeline.inference import Prediction
from pipeline.predictions import (
    PredictionRequest,
    Predictor,
    TrainedRun,
    load_filler,
    write_outputs,
)
from pipeline.tasks import masked_language_model as mlm
from pipeline.text.blanks import BLANK, encode_around_blanks
from pipeline.text.encode import Codec


def predict(request: PredictionRequest, out: Path) -> None:
    """Write `masked_<split>.parquet` for each split, and `samples.parquet` of the samples with a
    blank."""
    model = cast(MaskedLanguageModel, request.network())
    codec = Codec.load(request.vocab, mlm.SOURCE_TARGET[0])
    for split in request.splits():
        table = request.table(split, mlm.SCHEMA)
        scores = mlm.score(model, table, request.objective(mlm), request.device)
        columns = [pa.array(scores[field.name]).cast(field.type) for field in tables.MASKED]
        tables.write(out / f"masked_{split}.parquet", pa.table(columns, schema=tables.MASKED))

    samples = [sample for sample in request.samples if BLANK in sample.prompt]
    predictions = (fill(model, codec, sample.prompt, request.device) for sample in samples)
    write_outputs(samples, predictions, out)


@torch.inference_mode()
def fill(model: MaskedLanguageModel, codec: Codec, text: str, device: torch.device) -> Prediction:
    """Fill each blank with the most likely word (piece, for bpe), all blanks independently."""
    first, *others = encode_around_blanks(codec, text)
    ids = list(first)
    for part in others:
        ids += [MASK, *part]
    prompt, segment_BS = mlm.prompt(pa.array([ids], pa.list_(pa.int32())), device)

    # Predict all blanks in one pass: a prediction does not see the others.
    hidden_BSH = model.read(prompt, segment_BS)
    best = model.project(hidden_BSH[prompt.ids_BS == MASK]).float().log_softmax(-1).max(-1)
    words = [codec.decode([word]).strip() for word in best.indices.tolist()]

    beginning, *parts = text.split(BLANK)
    filled = beginning + "".join(word + part for word, part in zip(words, parts, strict=True))
    log_prob = float(best.values.sum())
    return Prediction(filled, log_prob, log_prob)


def load_predictor(run: TrainedRun) -> Predictor:
    """Rows `text` and `log_prob`: each text with its blanks filled."""
    return load_filler(fill, "blanks,", lambda count: count > 0, run)


PARAMS: dict[str, tuple[int, int]] = {}
