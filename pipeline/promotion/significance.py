"""One-sided paired tests over sums: how often chance alone would make a challenger look as much
better as it does.

Both take the units of the same N rows (or blocks of rows) of two systems and a score of their
column sums, as `pipeline/scoring/tasks` gives them. Shapes: N units, K sums, R resamples."""

import numpy as np

from pipeline.promotion.settings import Method
from pipeline.scoring.significance import Array, Bootstrap, Score

_SWAPS_AT_ONCE = 4_000_000
_ROUNDING = 1e-9  # of a difference: what equal sums may differ by, added up in another order


def p_value(
    method: Method,
    champion_NK: Array,
    challenger_NK: Array,
    score: Score,
    higher_is_better: bool,
    resamples: int,
    seed: int,
) -> float:
    """The p-value of "the challenger is no better": at least 1 / (resamples + 1), at most 1, which
    equal units have."""
    assert champion_NK.shape == challenger_NK.shape
    if np.array_equal(champion_NK, challenger_NK, equal_nan=True):
        return 1.0
    test = {"approximate_randomisation": _swapped, "paired_bootstrap": _drawn}[method]
    sign = 1.0 if higher_is_better else -1.0
    seen = sign * score_difference(champion_NK, challenger_NK, score)
    by_chance_R = sign * test(champion_NK, challenger_NK, score, resamples, seed)
    as_much = by_chance_R >= seen - _ROUNDING * max(1.0, abs(seen))
    return (1 + int(as_much.sum())) / (resamples + 1)


def score_difference(champion_NK: Array, challenger_NK: Array, score: Score) -> float:
    """The challenger's score minus the champion's, over all units."""
    first, second = score(np.stack([champion_NK.sum(0), challenger_NK.sum(0)]))
    return float(second - first)


def resampled_differences(
    champion_NK: Array, challenger_NK: Array, score: Score, bootstrap: Bootstrap
) -> Array:
    """differences_R: the challenger's score minus the champion's, both on each of the bootstrap's
    resamples."""
    first_RK, second_RK = np.split(
        bootstrap.sums(np.concatenate([champion_NK, challenger_NK], 1)), 2, axis=1
    )
    found: Array = score(second_RK) - score(first_RK)
    return found


def _swapped(
    champion_NK: Array, challenger_NK: Array, score: Score, resamples: int, seed: int
) -> Array:
    """differences_R by approximate randomisation (Noreen 1989; Riezler & Maxwell 2005, "On Some
    Pitfalls in Automatic Evaluation and Significance Testing for MT"): each unit's two answers are
    given to the two systems by the toss of a coin.

    Were the systems alike, what was seen would be one more such toss, so that the p-value is valid
    at any N and any score."""
    apart = (champion_NK != challenger_NK).any(1)  # to swap equal answers changes nothing
    gap_NK, generator = (challenger_NK - champion_NK)[apart], np.random.default_rng(seed)
    total_K = np.stack([champion_NK.sum(0), challenger_NK.sum(0)])
    parts = []
    at_once = max(1, _SWAPS_AT_ONCE // len(gap_NK))
    for start in range(0, resamples, at_once):
        rows = min(at_once, resamples - start)
        moved_RK = (
            generator.integers(0, 2, (rows, len(gap_NK)), np.int8).astype(np.float64) @ gap_NK
        )
        parts.append(score(total_K[1] - moved_RK) - score(total_K[0] + moved_RK))
    return np.concatenate(parts)


def _drawn(
    champion_NK: Array, challenger_NK: Array, score: Score, resamples: int, seed: int
) -> Array:
    """differences_R by the paired bootstrap (Koehn 2004, "Statistical Significance Tests for
    Machine Translation Evaluation"), shifted to no difference as in
    `pipeline.scoring.significance.paired_p`."""
    found_R = resampled_differences(
        champion_NK, challenger_NK, score, Bootstrap(resamples, 0.95, seed)
    )
    shifted: Array = found_R - found_R.mean()
    return shifted
