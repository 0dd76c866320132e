"""Rows of ids of different lengths: read from Arrow's buffers, pad and batch them in NumPy."""

import itertools
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.text.specials import PAD

BUCKET = 4  # padded widths are multiples of this: every new shape has a set-up cost on CPUs


class Ragged:
    """A list<int32> column: concatenated `values`, and the `start` and `length` of each row."""

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
        """ids (rows, width) int64: each row between `before` (if any) and `after`, padded with PAD
        to a multiple of `BUCKET`.

        `before` adds a column to this width.
        """
        length = self.length[rows]
        lead = 0 if before is None else 1
        width = round_up_to_bucket(int(length.max()) + 1)

        # Copy all ids at once through a mask (rows, width) of the positions that have one.
        ids = np.full((len(rows), lead + width), PAD, dtype=np.int64)
        column = np.arange(width)
        mask = column < length[:, None]
        ids[:, lead:][mask] = self.values[(self.start[rows, None] + column)[mask]]

        ids[np.arange(len(rows)), lead + length] = after
        if before is not None:
            ids[:, 0] = before
        return ids


def round_up_to_bucket(positions: int) -> int:
    """Width to which rows of at most `positions` ids are padded."""
    return -(-positions // BUCKET) * BUCKET


def batches_by_budget(
    rows: np.ndarray[Any, Any], lengths: np.ndarray[Any, Any], budget: int, rng: np.random.Generator
) -> list[np.ndarray[Any, Any]]:
    """Divide `rows`, whose `lengths` ascend, into batches of at most `budget` positions, padding
    included, in random order. A single longer row is a batch of its own."""
    bounds = [0]
    start = 0
    while start < len(rows):
        # Positions of a batch that ends with each row: its last row is its longest.
        sizes = np.arange(1, len(rows) - start + 1)[:budget] * lengths[start : start + budget]
        start += max(1, int(np.searchsorted(sizes, budget, side="right")))
        bounds.append(start)

    batches = [rows[begin:end] for begin, end in itertools.pairwise(bounds)]
    return [batches[i] for i in rng.permutation(len(batches))]


def batches_by_length(lengths: np.ndarray[Any, Any], size: int) -> list[np.ndarray[Any, Any]]:
    """The numbers of all rows in batches of `size` rows of like lengths, the shortest first."""
    order = np.argsort(lengths, kind="stable")
    return [order[start : start + size] for start in range(0, len(order), size)]


def describe_rows(rows: np.ndarray[Any, Any]) -> str:
    """Describe the rows of the training table in a batch, for messages."""
    numbers = ", ".join(str(row) for row in rows[:10])
    return f"rows {numbers}{', ...' if len(rows) > 10 else ''} of the training table"
