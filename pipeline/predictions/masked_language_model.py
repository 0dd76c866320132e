"""A masked language model's predictions: its guesses at masked words and at which sentence follows,
and blanks filled in."""

from pathlib import Path
from typing import cast

import pyarrow as pa
import torch

from pipeline.contracts import MASK, MaskedLanguageModel
from pipeline.core import tables
from pipeline.inference import Prediction
from pipeline.predictions import BLANK, PredictionRequest, encode_around_blanks, write_outputs
from pipeline.tasks import masked_language_model as mlm
from pipeline.text.encode import Codec


def predict(asked: PredictionRequest, out: Path) -> None:
    """Write `masked_<split>.parquet` for each split, and `samples.parquet` of the samples that have
    a blank."""
    model, codec = (
        cast(MaskedLanguageModel, asked.network()),
        Codec.load(asked.vocab, mlm.SOURCE_TARGET[0]),
    )
    for split in asked.splits():
        found = mlm.score(model, asked.table(split, mlm.SCHEMA), asked.objective(mlm), asked.device)
        columns = [pa.array(found[field.name]).cast(field.type) for field in tables.MASKED]
        tables.write(out / f"masked_{split}.parquet", pa.table(columns, schema=tables.MASKED))
    fitting = [sample for sample in asked.samples if BLANK in sample.prompt]
    write_outputs(
        fitting, (fill(model, codec, sample.prompt, asked.device) for sample in fitting), out
    )


@torch.inference_mode()
def fill(model: MaskedLanguageModel, codec: Codec, text: str, device: torch.device) -> Prediction:
    """The likeliest word (piece, for bpe) in each blank's place, every one guessed while the others
    are blanks still."""
    ids: list[int] = []
    for number, part in enumerate(encode_around_blanks(codec, text)):
        ids += [*([MASK] if number else []), *part]
    prompt, segment_BS = mlm.prompt(pa.array([ids], pa.list_(pa.int32())), device)
    hidden_BSH = model.read(prompt, segment_BS)
    best = model.project(hidden_BSH[prompt.ids_BS == MASK]).float().log_softmax(-1).max(-1)
    words = [codec.decode([word]).strip() for word in best.indices.tolist()]
    parts = text.split(BLANK)
    spoken = parts[0] + "".join(word + part for word, part in zip(words, parts[1:], strict=True))
    log_prob = float(best.values.sum())
    return Prediction(spoken, log_prob, log_prob)
