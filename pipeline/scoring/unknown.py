"""Words that a vocabulary lacks: their number in each row, and the nats for their characters.

A model predicts `<unk>` without the word that it stands for, so a smaller vocabulary would make a
text cheaper. Each unknown word therefore also costs its characters and an end mark, with equal
probabilities for all characters of the split. The nats are then those of the full text, and can be
compared across vocabularies.

A literal `<unk>` in the text is a word of every vocabulary. The bytes of bpe cover every text.
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

# Column of ids and its table, by side.
_IDS = {"text": ("ids", tables.ENCODED_TEXT), "target": ("target", tables.ENCODED_PAIR)}


@dataclass(frozen=True, slots=True)
class Unknown:
    """For each of N rows the number of unknown words, and the nats for their characters."""

    count_N: NDArray[np.int32]
    nats_N: NDArray[np.float64]

    @classmethod
    def none(cls, rows: int) -> "Unknown":
        """No unknown words in `rows` rows."""
        return cls(np.zeros(rows, np.int32), np.zeros(rows))


def unknown(words: pa.ChunkedArray, encoded: Path | None, split: str, side: str) -> Unknown:
    """Count the unknown words of a split, on the side `text` or `target`.

    `words` are the lists of words of its rows, in order. `encoded` is the folder of the encode
    stage; without it no word counts as unknown. UserError if the ids are those of other rows."""
    if encoded is None:
        return Unknown.none(len(words))

    path = encoded / f"{split}.parquet"
    column, schema = _IDS[side]
    table = tables.read(path, schema).sort_by("row")
    check_row_numbers(table["row"], len(words), path)
    words_N, ids_N = words.combine_chunks(), table[column].combine_chunks()
    flat = words_N.flatten()
    is_unknown = np.asarray(ids_N.flatten()) == UNK
    if not is_unknown.any():
        return Unknown.none(len(words))
    if len(is_unknown) != len(flat):
        expected = f"one for each of the {len(flat)} tokens of the references"
        raise refuse(str(path), f"{len(is_unknown)} ids", expected, "Run `dvc repro`: it is stale.")

    # A literal <unk> is a known word.
    is_unknown &= ~np.asarray(pc.equal(flat, SPECIALS[UNK]))

    # A symbol costs log(characters + 1): the end mark is one more symbol.
    alphabet = {" ", *(character for word in pc.unique(flat).to_pylist() for character in word)}
    length = np.asarray(pc.utf8_length(flat))
    symbols_N = _row_sums(words_N, np.where(is_unknown, length + 1, 0))
    count_N = _row_sums(words_N, is_unknown).astype(np.int32)
    return Unknown(count_N, np.log(len(alphabet) + 1) * symbols_N)


def _row_sums(words_N: pa.ListArray, values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sum the values of each row's words; `values` has an entry for each word."""
    total = np.concatenate([[0], np.cumsum(values)])
    starts = offsets(words_N)
    sums_N: NDArray[np.int64] = total[starts[1:]] - total[starts[:-1]]
    return sums_N
