"""Rows of ids of unlike lengths, straight from Arrow's buffers, padded without Python per row."""

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

    def padded(self, rows: np.ndarray[Any, Any], *, before: int | None, after: int) -> np.ndarray[Any, Any]:
        """ids (rows, width) int64: each row between `before` (if any) and `after`, PAD to a width of whole buckets.

        The width counts what comes after `before`, which thus adds a column.
        """
        length, lead = self.length[rows], 0 if before is None else 1
        width = -(-(int(length.max()) + 1) // BUCKET) * BUCKET
        out = np.full((len(rows), lead + width), PAD, dtype=np.int64)
        column = np.arange(width)
        real = column < length[:, None]
        out[:, lead:][real] = self.values[(self.start[rows, None] + column)[real]]
        out[np.arange(len(rows)), lead + length] = after
        if before is not None:
            out[:, 0] = before
        return out
