"""Words that a vocabulary lacks: how many there are in each row, and what it costs to spell them out.

A model gives `<unk>` a probability and leaves open which word it stands for: the smaller a vocabulary, the cheaper a text
would be. So each such word costs its characters and an end, all characters of the split being equally likely. Then nats
are those of the whole text, and can be compared whatever the vocabularies.

`<unk>` written in the text itself is a word that every vocabulary has. The bytes of bpe know every text.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline import tables
from pipeline.errors import refuse
from pipeline.text.specials import SPECIALS, UNK
from pipeline.text.tokens import offsets

_TOKENS = {"text": ("tokens", "ids"), "target": ("target_tokens", "target")}  # columns of tokens and of ids, by side
_ENCODED = (tables.ENCODED_TEXT, tables.ENCODED_PAIR, tables.ENCODED_LABELLED)


@dataclass(frozen=True, slots=True)
class Unknown:
    """By row, N of them: the number of words that the vocabulary lacks, and the nats for spelling them out."""

    count_N: NDArray[np.int32]
    nats_N: NDArray[np.float64]

    @classmethod
    def none(cls, rows: int) -> "Unknown":
        """Rows whose words are all known."""
        return cls(np.zeros(rows, np.int32), np.zeros(rows))


def unknown(tokens: Path, encoded: Path | None, split: str, side: str) -> Unknown:
    """The unknown words on a side (`text` or `target`) of a split, in the order of its rows.

    `tokens` and `encoded` are folders of the stages tokenize and encode. Without `encoded` no word counts as unknown.
    UserError if the two are not of the same rows.
    """
    path = tokens / f"{split}.parquet"
    words, ids = _TOKENS[side]
    words_N = _column(path, words, *tables.TOKENS.values())
    if encoded is None:
        return Unknown.none(len(words_N))

    ids_N = _column(encoded / path.name, ids, *_ENCODED)
    if len(ids_N) != len(words_N):
        got, expected = f"{len(ids_N)} rows", f"the {len(words_N)} rows of {path}"
        raise refuse(str(encoded / path.name), got, expected, "Run `dvc repro`: it is stale.")
    flat = words_N.flatten()
    lacking = np.asarray(ids_N.flatten()) == UNK
    if not lacking.any():
        return Unknown.none(len(words_N))
    if len(lacking) != len(flat):
        got, expected = f"{len(lacking)} ids", f"one for each of the {len(flat)} tokens of {path}"
        raise refuse(str(encoded / path.name), got, expected, "Run `dvc repro`: it is stale.")

    lacking &= ~np.asarray(pc.equal(flat, SPECIALS[UNK]))
    alphabet = {" ", *(character for word in pc.unique(flat).to_pylist() for character in word)}
    length = np.asarray(pc.utf8_length(flat))
    spelt_N = _summed(words_N, np.where(lacking, length + 1, 0))
    return Unknown(_summed(words_N, lacking).astype(np.int32), np.log(len(alphabet) + 1) * spelt_N)


def _summed(words_N: pa.ListArray, values: NDArray[np.int64]) -> NDArray[np.int64]:
    """The sum of one value for each word, by row."""
    total = np.concatenate([[0], np.cumsum(values)])
    starts = offsets(words_N)
    summed: NDArray[np.int64] = total[starts[1:]] - total[starts[:-1]]
    return summed


def _column(path: Path, name: str, *schemas: pa.Schema) -> pa.ListArray:
    table = tables.read(path, tables.schema(path, *schemas))
    return table.sort_by("row")[name].combine_chunks()
