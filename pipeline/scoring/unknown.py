"""Words that a vocabulary lacks: their number in each row, and the nats for spelling them out.

A model gives `<unk>` a probability and leaves open which word it stands for: the smaller a
vocabulary, the cheaper a text would be. So each such word costs its characters and an end, all
characters of the split being equally likely. The nats are then those of the full text and can be
compared across vocabularies.

`<unk>` written in the text itself is a word of every vocabulary. The bytes of bpe cover every text.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.core import tables
from pipeline.core.errors import refuse
from pipeline.scoring.likelihood import check_row_numbers
from pipeline.text.specials import SPECIALS, UNK
from pipeline.text.tokens import offsets

# by side: column, and its table
_IDS = {"text": ("ids", tables.ENCODED_TEXT), "target": ("target", tables.ENCODED_PAIR)}


@dataclass(frozen=True, slots=True)
class Unknown:
    """By row, N of them: the number of words that the vocabulary lacks, and the nats for spelling
    them out."""

    count_N: NDArray[np.int32]
    nats_N: NDArray[np.float64]

    @classmethod
    def none(cls, rows: int) -> "Unknown":
        """Rows without unknown words."""
        return cls(np.zeros(rows, np.int32), np.zeros(rows))


def unknown(words: pa.ChunkedArray, encoded: Path | None, split: str, side: str) -> Unknown:
    """Unknown words on a side (`text` or `target`) of a split.

    `words` are the lists of words of its rows, in order, and `encoded` is the folder of the stage
    encode, without which no word counts as unknown. UserError if the ids are of other rows."""
    if encoded is None:
        return Unknown.none(len(words))

    path = encoded / f"{split}.parquet"
    column, schema = _IDS[side]
    table = tables.read(path, schema).sort_by("row")
    check_row_numbers(table["row"], len(words), path)
    words_N, ids_N = words.combine_chunks(), table[column].combine_chunks()
    flat = words_N.flatten()
    lacking = np.asarray(ids_N.flatten()) == UNK
    if not lacking.any():
        return Unknown.none(len(words))
    if len(lacking) != len(flat):
        expected = f"one for each of the {len(flat)} tokens of the references"
        raise refuse(str(path), f"{len(lacking)} ids", expected, "Run `dvc repro`: it is stale.")

    lacking &= ~np.asarray(pc.equal(flat, SPECIALS[UNK]))
    alphabet = {" ", *(character for word in pc.unique(flat).to_pylist() for character in word)}
    length = np.asarray(pc.utf8_length(flat))
    spelt_N = _row_sums(words_N, np.where(lacking, length + 1, 0))
    return Unknown(
        _row_sums(words_N, lacking).astype(np.int32), np.log(len(alphabet) + 1) * spelt_N
    )


def _row_sums(words_N: pa.ListArray, values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sum by row of `values`, which has one entry for each word."""
    total = np.concatenate([[0], np.cumsum(values)])
    starts = offsets(words_N)
    sums_N: NDArray[np.int64] = total[starts[1:]] - total[starts[:-1]]
    return sums_N
