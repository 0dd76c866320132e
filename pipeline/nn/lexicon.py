"""Lexical translation probabilities by EM, as IBM model 1 has them (Brown et al. 1993, section
4.2).

Shapes: C distinct pairs of a source word and a target word, G target positions."""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.text.token_budget import Ragged

_CHUNK = 1 << 22  # pairs of positions that are handled at a time


class Lexicon(NamedTuple):
    """t(word | given) of all pairs that occur in some pair of sentences, sorted by `given` and
    `word`; and the log-likelihood of the training targets before the last update."""

    given: NDArray[np.int64]
    word: NDArray[np.int64]
    prob: NDArray[np.float64]
    log_likelihood: float


class _Chunk(NamedTuple):
    """Pairs of positions of some sentences: those of a target position, with all positions of its
    source, are a group. `cell`: number of the pair of words; `start` and `size` of the groups."""

    cell: NDArray[np.int64] | NDArray[np.int32]
    start: NDArray[np.int64]
    size: NDArray[np.int64]


def expectation_maximization(
    sources: Ragged, targets: Ragged, empty: int, vocabulary: int, iterations: int
) -> Iterator[Lexicon]:
    """Model 1 after each iteration of EM (Brown et al. 1993, equations 14 to 17), from uniform t.

    The empty word, whose id is `empty`, is a word of every source. `vocabulary`: number of the
    target's ids. The log-likelihood leaves out the probability of the targets' lengths, which is
    constant.
    """
    cell_C, chunks = _cells(sources, targets, empty, vocabulary)
    given_C = cell_C // vocabulary
    prob_C = np.full(len(cell_C), 1 / vocabulary)

    for _ in range(iterations):
        # E: the probability of each alignment of each target word.
        count_C = np.zeros(len(cell_C))
        log_likelihood = 0.0
        for chunk in chunks:
            prob = prob_C[chunk.cell]
            total = np.add.reduceat(prob, chunk.start)
            log_likelihood += float(np.log(total / chunk.size).sum())
            share = prob / np.repeat(total, chunk.size)
            count_C += np.bincount(chunk.cell, share, minlength=len(cell_C))

        # M: relative frequencies of the expected counts.
        total_G = np.bincount(given_C, count_C)
        prob_C = count_C / total_G[given_C]
        yield Lexicon(given_C, cell_C % vocabulary, prob_C, log_likelihood)


def _cells(
    sources: Ragged, targets: Ragged, empty: int, vocabulary: int
) -> tuple[NDArray[np.int64], list[_Chunk]]:
    """The distinct pairs given * vocabulary + word, sorted; and the pairs of positions."""
    source, source_start = flat(sources, before=empty, after=None)
    target, target_start = flat(targets, before=None, after=None)
    source_size = np.diff(source_start)
    target_size = np.diff(target_start)

    # Whole sentences, up to about `_CHUNK` pairs of positions.
    ends = np.cumsum(source_size * target_size)
    bounds = np.searchsorted(ends, np.arange(0, ends[-1], _CHUNK), side="right")
    bounds = np.unique(np.append(bounds, len(ends)))

    distinct = []
    chunks = []
    for first, last in itertools.pairwise(bounds):
        sentence_G = np.repeat(np.arange(first, last), target_size[first:last])
        size_G = source_size[sentence_G]
        start_G = np.cumsum(size_G) - size_G
        group = np.repeat(np.arange(len(size_G)), size_G)
        place = source_start[sentence_G][group] + np.arange(len(group)) - start_G[group]
        word_G = target[target_start[first] : target_start[last]]
        cell, index = np.unique(source[place] * vocabulary + word_G[group], return_inverse=True)
        distinct.append(cell)
        chunks.append(_Chunk(index, start_G, size_G))

    cell_C = np.unique(np.concatenate(distinct))
    numbered = [
        chunk._replace(cell=np.searchsorted(cell_C, cell).astype(np.int32)[chunk.cell])
        for cell, chunk in zip(distinct, chunks, strict=True)
    ]
    return cell_C, numbered


def flat(
    rows: Ragged, before: int | None, after: int | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ids of all rows end to end, each between `before` and `after` (if any); and where each row
    begins, and the end."""
    lead = 0 if before is None else 1
    size = rows.length + lead + (0 if after is None else 1)
    start = np.concatenate([[0], np.cumsum(size)])
    ids = np.zeros(start[-1], np.int64)
    if before is not None:
        ids[start[:-1]] = before
    if after is not None:
        ids[start[1:] - 1] = after

    row = np.repeat(np.arange(len(size)), rows.length)
    place = np.arange(len(row)) - (np.cumsum(rows.length) - rows.length)[row]
    ids[start[row] + lead + place] = rows.values[rows.start[row] + place]
    return ids, start
