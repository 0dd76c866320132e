"""Translation edit rate as sacreBLEU computes it (Snover et al. 2006, with Tercom's search for
shifts), ten times as fast.

sacreBLEU weighs every shift of a phrase by a fresh edit distance in Python. Here all shifts of a
round are weighed together, row by row of the edit matrix; which shifts are tried, in which order
one is preferred, and the beam are sacreBLEU's own. Shapes: C candidates, H words of the hypothesis,
R words of the reference."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

_FAR = 1 << 40
_Ids = NDArray[np.int64]


def edits(hypothesis: Sequence[str], reference: Sequence[str]) -> int:
    """The fewest insertions, deletions, substitutions and shifts found that turn the hypothesis
    into the reference."""
    from sacrebleu.metrics.lib_ter import _MAX_SHIFT_CANDIDATES, BeamEditDistance

    if not reference or list(hypothesis) == list(reference):
        return len(hypothesis) - len(reference)
    known = BeamEditDistance(list(reference))
    words, shifts, tried = list(hypothesis), 0, 0
    before: int
    while True:
        before, trace = known(words)
        found = list(_candidates(words, reference, trace, _MAX_SHIFT_CANDIDATES - tried))
        tried += len(found)
        if before == 0 or not found or tried >= _MAX_SHIFT_CANDIDATES:
            return shifts + before
        after_C = distances([shifted for _, shifted in found], reference)
        ranked = [
            (before - int(after), *rank, shifted)
            for after, (rank, shifted) in zip(after_C, found, strict=True)
        ]
        best = max(ranked)
        if best[0] <= 0:
            return shifts + before
        words, shifts = best[-1], shifts + 1


def _candidates(
    words: list[str], reference: Sequence[str], trace: str, limit: int
) -> Iterator[tuple[tuple[int, int, int], list[str]]]:
    """Every shift worth a try: what it ranks by after its gain (length, -start, -target), and the
    words after it."""
    from sacrebleu.metrics.lib_ter import (
        _find_shifted_pairs,
        _flip_trace,
        _perform_shift,
        trace_to_alignment,
    )

    align, wrong_R, wrong_H = trace_to_alignment(_flip_trace(trace))
    tried = 0
    for start, target, length in _find_shifted_pairs(words, list(reference)):
        if not any(wrong_H[start : start + length]) or not any(wrong_R[target : target + length]):
            continue
        if start <= align[target] < start + length:
            continue
        last = -1
        for place in range(target - 1, target + length):
            if place != -1 and place not in align:
                break
            to = 0 if place == -1 else align[place] + 1
            if to != last:
                last = to
                tried += 1
                yield (length, -start, -to), _perform_shift(words, start, length, to)
        if tried >= limit:
            return


def distances(candidates: Sequence[Sequence[str]], reference: Sequence[str]) -> _Ids:
    """Edit distances of hypotheses of one length to the reference, inside sacreBLEU's beam around
    the diagonal."""
    from sacrebleu.metrics.lib_ter import _BEAM_WIDTH

    number = {word: i for i, word in enumerate(dict.fromkeys([*reference, *candidates[0]]))}
    reference_R = np.array([number[word] for word in reference])
    words_CH = np.array([[number[word] for word in one] for one in candidates])
    count, length = words_CH.shape
    ratio = len(reference) / length
    beam = math.ceil(ratio / 2 + _BEAM_WIDTH) if ratio / 2 > _BEAM_WIDTH else _BEAM_WIDTH
    column = np.arange(len(reference) + 1)
    row_CR = np.tile(column, (count, 1))
    for i in range(1, length + 1):
        low, high = max(0, math.floor(i * ratio) - beam), math.floor(i * ratio) + beam
        last = len(reference) + 1 if i == length else min(len(reference) + 1, high)
        best_CR = row_CR + 1
        best_CR[:, 1:] = np.minimum(
            best_CR[:, 1:], row_CR[:, :-1] + (words_CH[:, i - 1 : i] != reference_R)
        )
        row_CR = np.full_like(row_CR, _FAR)
        inside = np.minimum.accumulate(best_CR[:, low:last] - column[low:last], axis=1)
        row_CR[:, low:last] = inside + column[low:last]
    found: _Ids = row_CR[:, -1]
    return found
