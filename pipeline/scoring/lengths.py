"""A score by sentence length, in few buckets that each hold enough rows to mean something."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.scoring.significance import Array, Bootstrap, Score

_BUCKETS, _ROWS = 8, 20


def buckets(length_N: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Row numbers by length, shortest first: at most 8 buckets of a round width, merged where one
    has under 20 rows."""
    span = int(length_N.max() - length_N.min()) + 1
    width = next(w * 10**e for e in range(9) for w in (1, 2, 5) if w * 10**e * _BUCKETS >= span)
    found: list[NDArray[np.int64]] = []
    numbers = (length_N - 1) // width
    for number in np.unique(numbers):
        rows = np.flatnonzero(numbers == number)
        if found and min(len(rows), len(found[-1])) < _ROWS:
            found[-1] = np.sort(np.concatenate([found[-1], rows]))
        else:
            found.append(rows)
    return found


def curve(
    length_N: NDArray[np.int64], units_NK: Array, score: Score, name: str, bootstrap: Bootstrap
) -> list[dict[str, Any]]:
    """The score of every bucket with its interval; `length` is the mean length, where a plot puts
    the point."""
    found = []
    for rows in buckets(length_N):
        lengths, made = length_N[rows], bootstrap.estimate(units_NK[rows], score)
        extent = {
            "from": int(lengths.min()),
            "to": int(lengths.max()),
            "length": float(lengths.mean()),
            "rows": len(rows),
        }
        found.append({**extent, "low": made["low"], "high": made["high"], name: made["score"]})
    return found
