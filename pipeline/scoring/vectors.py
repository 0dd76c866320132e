"""Benchmarks of word vectors: classes of words, pairs that people scored, and analogies. All by
cosine.

Shapes: V vocabulary, D dimension, N words, pairs or questions.
"""

import numpy as np
from numpy.typing import NDArray

from pipeline.scoring.significance import Array

Ids = NDArray[np.int64]
NEIGHBOURS = 10
_AT_ONCE = 512  # words compared with the whole vocabulary at a time


def unit_length(vector_VD: Array) -> Array:
    """The vectors at length 1; a vector of zeros stays one."""
    scaled: Array = vector_VD / np.maximum(np.linalg.norm(vector_VD, axis=1, keepdims=True), 1e-12)
    return scaled


def neighbour_purity(unit_VD: Array, word_N: Ids, class_N: Ids) -> tuple[Array, Array]:
    """For each word the share of its nearest neighbours that are of its class, and what chance
    would give.

    Neighbours come out of the whole vocabulary, as many as the class has other words but at most
    10, so that 1 is reachable by every word; one alone in its class gets 0."""
    size = np.bincount(class_N)
    class_V = np.full(len(unit_VD), -1)
    class_V[word_N] = class_N
    others_N = size[class_N] - 1
    found = np.zeros(len(word_N))
    for start in range(0, len(word_N), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        cosine_NV = unit_VD[word_N[part]] @ unit_VD.T
        np.put_along_axis(cosine_NV, word_N[part, None], -np.inf, 1)
        near_NK = np.argsort(-cosine_NV, axis=1, kind="stable")[:, :NEIGHBOURS]
        asked_N = np.minimum(others_N[part], NEIGHBOURS)
        same_NK = (class_V[near_NK] == class_N[part, None]) & (
            np.arange(near_NK.shape[1]) < asked_N[:, None]
        )
        found[part] = same_NK.sum(1) / np.maximum(asked_N, 1)
    return found, others_N / max(len(unit_VD) - 1, 1)


def ranks(value_N: Array) -> Array:
    """Ranks from 1, equal values sharing the mean of theirs."""
    _, place_N, times = np.unique(value_N, return_inverse=True, return_counts=True)
    last = np.cumsum(times)
    shared: Array = (last - (times - 1) / 2)[place_N]
    return shared


def correlation(sums_R6: Array) -> Array:
    """Pearson's, from sums of [1, x, y, xx, yy, xy]; Spearman's where x and y are ranks. 0 where
    either does not vary."""
    n, x, y, xx, yy, xy = np.moveaxis(sums_R6, -1, 0)
    spread = np.maximum(n * xx - x * x, 0) * np.maximum(n * yy - y * y, 0)
    found: Array = np.where(
        spread > 0, (n * xy - x * y) / np.sqrt(np.where(spread > 0, spread, 1)), 0.0
    )
    return found


def solve_analogies(unit_VD: Array, question_N3: Ids) -> Ids:
    """The word x nearest to b - a + c for each question `a is to b as c to x`, other than the three
    (3CosAdd: Mikolov et al. 2013c, with vectors of length 1)."""
    found = np.empty(len(question_N3), np.int64)
    for start in range(0, len(question_N3), _AT_ONCE):
        a, b, c = question_N3[start : start + _AT_ONCE].T
        cosine_NV = (unit_VD[b] - unit_VD[a] + unit_VD[c]) @ unit_VD.T
        np.put_along_axis(cosine_NV, np.stack([a, b, c], 1), -np.inf, 1)
        found[start : start + _AT_ONCE] = cosine_NV.argmax(1)
    return found
