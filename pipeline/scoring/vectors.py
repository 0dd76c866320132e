"""Benchmarks of word vectors: word classes, word similarity and analogies, all by cosine.

Shapes: V vocabulary, D dimension, N words, pairs or questions.
"""

import numpy as np
from numpy.typing import NDArray

from pipeline.scoring.significance import Array

Ids = NDArray[np.int64]
NEIGHBOURS = 10
_BATCH = 512  # words that are compared with the full vocabulary at a time


def unit_length(vector_VD: Array) -> Array:
    """Scale vectors to length 1; a vector of zeros stays zero."""
    scaled: Array = vector_VD / np.maximum(np.linalg.norm(vector_VD, axis=1, keepdims=True), 1e-12)
    return scaled


def neighbour_purity(unit_VD: Array, word_N: Ids, class_N: Ids) -> tuple[Array, Array]:
    """For each word the share of its nearest neighbours that are of its class, and the share
    expected by chance.

    Neighbours are from the full vocabulary. Their number is that of the other words of the class,
    but at most 10, so that every word can reach 1; a word alone in its class gets 0."""
    size = np.bincount(class_N)
    class_V = np.full(len(unit_VD), -1)
    class_V[word_N] = class_N
    others_N = size[class_N] - 1

    purity_N = np.zeros(len(word_N))
    for start in range(0, len(word_N), _BATCH):
        batch = slice(start, start + _BATCH)
        cosine_NV = unit_VD[word_N[batch]] @ unit_VD.T
        np.put_along_axis(cosine_NV, word_N[batch, None], -np.inf, 1)  # not its own neighbour
        nearest_NK = np.argsort(-cosine_NV, axis=1, kind="stable")[:, :NEIGHBOURS]

        # Words of small classes use the first neighbours only.
        count_N = np.minimum(others_N[batch], NEIGHBOURS)
        is_used_NK = np.arange(nearest_NK.shape[1]) < count_N[:, None]
        is_same_NK = (class_V[nearest_NK] == class_N[batch, None]) & is_used_NK
        purity_N[batch] = is_same_NK.sum(1) / np.maximum(count_N, 1)
    return purity_N, others_N / max(len(unit_VD) - 1, 1)


def ranks(value_N: Array) -> Array:
    """Ranks from 1; equal values get the mean of their ranks."""
    _, index_N, count = np.unique(value_N, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    rank_N: Array = (last - (count - 1) / 2)[index_N]
    return rank_N


def correlation(sums_R6: Array) -> Array:
    """Pearson's correlation from sums of [1, x, y, xx, yy, xy]; 0 if x or y does not vary.

    It is Spearman's correlation if x and y are ranks."""
    n, x, y, xx, yy, xy = np.moveaxis(sums_R6, -1, 0)
    variance = np.maximum(n * xx - x * x, 0) * np.maximum(n * yy - y * y, 0)
    deviation = np.sqrt(np.where(variance > 0, variance, 1))
    correlation_R: Array = np.where(variance > 0, (n * xy - x * y) / deviation, 0.0)
    return correlation_R


def solve_analogies(unit_VD: Array, question_N3: Ids) -> Ids:
    """For each question `a is to b as c to x` the word x nearest to b - a + c, other than a, b, c.

    This is 3CosAdd with vectors of length 1 (Mikolov et al. 2013c)."""
    solution_N = np.empty(len(question_N3), np.int64)
    for start in range(0, len(question_N3), _BATCH):
        a, b, c = question_N3[start : start + _BATCH].T
        cosine_NV = (unit_VD[b] - unit_VD[a] + unit_VD[c]) @ unit_VD.T
        np.put_along_axis(cosine_NV, np.stack([a, b, c], 1), -np.inf, 1)
        solution_N[start : start + _BATCH] = cosine_NV.argmax(1)
    return solution_N
