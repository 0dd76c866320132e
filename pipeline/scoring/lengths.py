"""A score by sentence length, in few buckets with enough rows each."""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.scoring.significance import Array, Bootstrap, Score, sum_by_block

_BUCKETS = 8  # at most
_ROWS = 20  # of a bucket, at least


def buckets(length_N: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Row numbers by length, shortest first: at most 8 buckets of a round width; buckets with less
    than 20 rows are merged."""
    # The smallest width of 1, 2, 5, 10, 20, 50, ... that needs no more buckets.
    span = int(length_N.max() - length_N.min()) + 1
    width = next(w * 10**e for e in range(9) for w in (1, 2, 5) if w * 10**e * _BUCKETS >= span)

    bucket_N = (length_N - 1) // width
    merged: list[NDArray[np.int64]] = []
    for bucket in np.unique(bucket_N):
        rows = np.flatnonzero(bucket_N == bucket)
        if merged and min(len(rows), len(merged[-1])) < _ROWS:
            merged[-1] = np.sort(np.concatenate([merged[-1], rows]))
        else:
            merged.append(rows)
    return merged


def curve(
    table: pa.Table, sums_NK: Array, score: Score, name: str, bootstrap: Bootstrap
) -> list[dict[str, Any]]:
    """The score of every bucket, as `name`, with its interval; `length` is the mean length, the
    position in plots.

    `sums_NK` are those of each row of `table`, which has the columns `length` and `block`."""
    length_N = table["length"].to_numpy().astype(np.int64)
    block_N = table["block"].to_numpy()
    points = []
    for rows in buckets(length_N):
        lengths = length_N[rows]
        estimate = bootstrap.estimate(sum_by_block(sums_NK[rows], block_N[rows]), score)
        points.append(
            {
                "from": int(lengths.min()),
                "to": int(lengths.max()),
                "length": float(lengths.mean()),
                "rows": len(rows),
                "low": estimate["low"],
                "high": estimate["high"],
                name: estimate["score"],
            }
        )
    return points
