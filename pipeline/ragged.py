"""Rows of ids of unlike lengths, straight from Arrow's buffers, padded and put in batches without
Python per row."""

import itertools
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.text.specials import PAD

BUCKET = 4  # padded widths are multiples of this: every new shape costs the CPU's kernels a set-up


class Ragged:
    """A list<int32> column: `values` end to end, and each row's `start` and `length`."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        array = column.combine_chunks()
        offsets = array.offsets.to_numpy()
        self.values = array.values.to_numpy(zero_copy_only=True)
        self.start = offsets[:-1].astype(np.int64)
        self.length = np.diff(offsets).astype(np.int64)

    def truncate(self, limit: int) -> None:
        """Keep the first `limit` ids of every row."""
        self.length = np.minimum(self.length, limit)

    def padded(
        self, rows: np.ndarray[Any, Any], *, before: int | None, after: int
    ) -> np.ndarray[Any, Any]:
        """ids (rows, width) int64: each row between `before` (if any) and `after`, PAD to a width
        of whole buckets.

        The width counts what comes after `before`, which thus adds a column.
        """
        length, lead = self.length[rows], 0 if before is None else 1
        width = round_up_to_bucket(int(length.max()) + 1)
        out = np.full((len(rows), lead + width), PAD, dtype=np.int64)
        column = np.arange(width)
        real = column < length[:, None]
        out[:, lead:][real] = self.values[(self.start[rows, None] + column)[real]]
        out[np.arange(len(rows)), lead + length] = after
        if before is not None:
            out[:, 0] = before
        return out


def round_up_to_bucket(positions: int) -> int:
    """The width to which rows of at most so many positions are padded."""
    return -(-positions // BUCKET) * BUCKET


def batches_by_budget(
    rows: np.ndarray[Any, Any], lengths: np.ndarray[Any, Any], budget: int, rng: np.random.Generator
) -> list[np.ndarray[Any, Any]]:
    """`rows`, whose `lengths` ascend, cut into batches of at most `budget` positions, padding to
    the longest row counted; a row that is longer alone is a batch of its own. The batches come in
    random order."""
    cuts, start = [0], 0
    while start < len(rows):  # rows ascend in length, so the last row of a batch is its widest
        fits = np.arange(1, len(rows) - start + 1)[:budget] * lengths[start : start + budget]
        start += max(1, int(np.searchsorted(fits, budget, side="right")))
        cuts.append(start)
    batches = [rows[a:b] for a, b in itertools.pairwise(cuts)]
    return [batches[i] for i in rng.permutation(len(batches))]


def describe_rows(rows: np.ndarray[Any, Any]) -> str:
    """Name the rows of the training table in a batch, for messages."""
    shown = ", ".join(str(row) for row in rows[:10])
    return f"rows {shown}{', ...' if len(rows) > 10 else ''} of the training table"
