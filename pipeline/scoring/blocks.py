"""Blocks of dependent rows, the units that bootstraps and randomization tests resample.

A test that counts dependent rows as independent calls too many equal systems different. On
fra_eng's 951 test rows, which are translations of 592 sources, a test by rows does so at p < 0.05
for 16 % of equal systems (`python -m benchmarks.calibration`). So rows that share a text are one
unit, and so are neighbouring rows of a running text.

A block is the same for every system, as it depends on the raw text only."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.text.tokens import normalise

WINDOWS = 64  # of a running text, at most
_PARAGRAPHS = 30  # at least, or windows may begin within a paragraph


def by_text(texts: pa.ChunkedArray) -> NDArray[np.int64]:
    """block_N: rows with the same text, but for case, are one block; blocks are numbered by their
    first rows.

    A corpus is split by the same rule (`pipeline.text.splits`): no block is in two splits or in two
    folds."""
    normal = normalise(texts.combine_chunks(), lowercase=True, letters_only=False)
    block_N: NDArray[np.int64] = normal.dictionary_encode().indices.to_numpy().astype(np.int64)
    return block_N


def by_window(paragraph_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """block_N: at most 64 windows of neighbouring rows of a running text, of about equal size.

    Sentences of a paragraph are correlated, and so are paragraphs of a document: its topic and
    names recur, and a model may carry its state from row to row. Windows consist of whole
    paragraphs if there are 30 of them, else of rows. `paragraph_N` has the paragraph of each row,
    in the order of the text."""
    rows = len(paragraph_N)
    starts = np.flatnonzero(np.diff(paragraph_N, prepend=paragraph_N[:1] - 1))
    if len(starts) < _PARAGRAPHS:
        starts = np.arange(rows)

    # The window of the row at which a paragraph begins is that of the whole paragraph.
    first_N = np.repeat(starts, np.diff(starts, append=rows))
    block_N: NDArray[np.int64] = first_N * min(WINDOWS, rows) // max(rows, 1)
    return block_N
