"""Scores of a classifier of pictures: those of a classifier of texts."""

import base64
import dataclasses
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core import tables
from pipeline.core.images import encode_png
from pipeline.scoring.significance import Bootstrap
from pipeline.scoring.tasks import Inputs, Interface, Scoring, classification

_NATS = ("nats per text", "nats_per_text", "nats per picture", "nats_per_picture")
_MEANING = classification.MEANING.replace("texts", "pictures").replace("text", "picture")


def scoring(lowercase: bool, tokenizer: str = "13a") -> Scoring:
    """The scoring of labels, with pictures in place of texts."""
    title, key, new_title, new_key = _NATS
    of_texts = classification.scoring(lowercase, tokenizer)
    columns = tuple(
        (new_title, new_key, form) if (name, column) == (title, key) else (name, column, form)
        for name, column, form in of_texts.columns
    )
    return dataclasses.replace(
        of_texts,
        rows=rows,
        summary=summary,
        by_length=by_length,
        columns=columns,
        title="Classifiers of pictures",
        length="pixels",
        unit="picture",
        meaning=_MEANING,
    )


def rows(inputs: Inputs, split: str) -> pa.Table:
    """True label, predicted label and nats of every picture; equal pictures are one block.

    UserError if predictions and pictures do not match."""
    pictures = tables.read(inputs.tokens / f"{split}.parquet", tables.TOKENS_IMAGE).sort_by("row")
    block_N = pictures["pixels"].combine_chunks().dictionary_encode().indices.to_numpy()
    pixels_N = pc.multiply(pictures["height"], pictures["width"])
    return classification.score_labels(
        inputs.predictions, split, pictures["label"], block_N, pixels_N
    )


def summary(table: pa.Table, bootstrap: Bootstrap, limit: dict[str, float]) -> dict[str, Any]:
    """As that of texts, with `nats_per_picture`."""
    metrics = classification.summary(table, bootstrap, limit)
    return {_NATS[3] if key == _NATS[1] else key: value for key, value in metrics.items()}


def by_length(table: pa.Table, bootstrap: Bootstrap) -> list[dict[str, Any]]:
    """No rows: all pictures of a corpus have one size."""
    return []


# A decision shows texts of the test set, so it shows no rows of pictures.
PROMOTION = dataclasses.replace(classification.PROMOTION, outputs=None)
INTERFACE = Interface(
    outputs=classification.INTERFACE.outputs,
    params={},
    # The bytes of a PNG file as base64: a black picture, of the size of scikit-learn's digits.
    example=base64.b64encode(encode_png(np.zeros((8, 8), np.uint8))).decode("ascii"),
    command="classify",
)
