"""Teacher-forced likelihood: perplexity and bits per character from summed nats.

Nats include the end of every sentence and the letters of unknown words
(`pipeline.scoring.unknown`). So bits per character, the cost of the full text over its number of
characters, compare models of different tokenizations and vocabularies. The end of a sentence is a
character, as the line end of a text is."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core import tables
from pipeline.core.errors import UserError, refuse
from pipeline.scoring.lengths import curve
from pipeline.scoring.significance import Array, Bootstrap

_MAX_EXPONENT = 700.0  # exp overflows float64 at 709.8


def likelihood(predictions: Path, split: str, rows: int) -> pa.Table:
    """Read the LIKELIHOOD of a split of `rows` rows, in order; UserError for other rows, or values
    that are not finite."""
    path = predictions / f"likelihood_{split}.parquet"
    table = tables.read(path, tables.LIKELIHOOD).sort_by("row")
    check_row_numbers(table["row"], rows, path)

    if not pc.all(pc.is_finite(table["nats"])).as_py():
        raise diverged(path)
    return table


def diverged(path: Path) -> UserError:
    """The error for nats in the file `path` that are not finite."""
    return refuse(
        str(path),
        "nats that are not finite",
        "finite numbers",
        "The model has diverged: train it again.",
    )


def curve_by_length(table: pa.Table, bootstrap: Bootstrap, name: str) -> list[dict[str, Any]]:
    """Perplexity by the number of tokens in the row, as rows of by_length.csv; `name` is the
    score's."""
    sums_N2 = np.stack([table["nats"].to_numpy(), table["count"].to_numpy().astype(np.float64)], 1)
    return curve(table, sums_N2, perplexity, name, bootstrap)


def check_row_numbers(row: pa.ChunkedArray, rows: int, path: Path) -> None:
    """Raise UserError unless `row` is 0, 1, ... rows - 1."""
    if rows == 0:
        raise refuse(
            str(path),
            "a split without rows",
            "at least one row to score",
            "Enlarge the corpus's split.",
        )
    if len(row) != rows or not np.array_equal(row.to_numpy(), np.arange(rows)):
        raise refuse(
            str(path),
            f"{len(row)} rows",
            f"the {rows} rows of the references",
            "Run `dvc repro`: it is stale.",
        )


def with_ends(characters: pa.ChunkedArray) -> pa.ChunkedArray:
    """The number of characters of each row with its end: int32."""
    return pc.add(characters, pa.scalar(1, pa.int32()))


def log_perplexity(sums_RK: Array) -> Array:
    """Nats per token, from [nats, tokens, ...]."""
    mean: Array = sums_RK[:, 0] / np.maximum(sums_RK[:, 1], 1)
    return mean


def perplexity(sums_RK: Array) -> Array:
    """exp(nats / tokens), from [nats, tokens, ...]; capped at e ** 700."""
    perplexity_R: Array = np.exp(np.minimum(log_perplexity(sums_RK), _MAX_EXPONENT))
    return perplexity_R


def bits_per_character(sums_RK: Array) -> Array:
    """Bits per character of the text, from [nats, ..., characters], ends of rows counted in
    both."""
    bits: Array = sums_RK[:, 0] / math.log(2) / np.maximum(sums_RK[:, -1], 1)
    return bits


def unknown_share(unknown: int, words: int) -> dict[str, float]:
    """The metric `unknown`, the share of words that the vocabulary lacks; no metric if there are
    none."""
    return {"unknown": unknown / words} if unknown else {}


def summary(table: pa.Table, units_NK: Array, bootstrap: Bootstrap) -> dict[str, Any]:
    """Perplexity and bits per character with their intervals, the sums of both, and the share of
    unknown words.

    `units_NK` begins with nats and tokens, and ends with characters."""
    nats, tokens, characters = (
        pc.sum(table[name]).as_py() for name in ("nats", "count", "characters")
    )

    bits = {}
    if characters:
        estimate = bootstrap.estimate(units_NK, bits_per_character)
        bits = {
            "bits_per_character": nats / math.log(2) / characters,
            "bits_per_character_low": estimate["low"],
            "bits_per_character_high": estimate["high"],
        }

    # The end of a row is a token, but not a word.
    words = max(tokens - len(table), 1)
    return {
        "perplexity": bootstrap.estimate(units_NK, perplexity),
        **bits,
        "nats": nats,
        "tokens": tokens,
        **unknown_share(pc.sum(table["unknown"]).as_py(), words),
    }
