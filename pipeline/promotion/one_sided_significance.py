"""One-sided paired significance tests of a score of column sums.

The p-value is the probability of a difference at least as large as the observed one if the
challenger is no better. Both tests take the N resampling units of two systems, as
`pipeline/scoring/tasks` defines them: sums over blocks of dependent rows
(`pipeline.scoring.blocks`). If rows were the units, about one equal challenger in ten would be
promoted on fra_eng (`python -m benchmarks.calibration rows`).

The champion and the challenger are two models, each with one seed. The tests say nothing about
other trainings with the same settings: that is for `pipeline.scoring.seeds`.

Shapes: N units, K sums, R resamples."""

import numpy as np

from pipeline.promotion.settings import Method
from pipeline.scoring.significance import Array, Bootstrap, Score

_SWAPS_PER_BATCH = 4_000_000  # bounds the memory
_ROUNDING = 1e-9  # relative: equal sums differ by as much when they are added in another order


def p_value(
    method: Method,
    champion_NK: Array,
    challenger_NK: Array,
    score: Score,
    higher_is_better: bool,
    resamples: int,
    seed: int,
) -> float:
    """The p-value of "the challenger is no better": at least 1 / (resamples + 1), at most 1.

    Equal units have a p-value of 1. The observed difference counts as one resample, which keeps the
    test valid (Davison & Hinkley 1997, section 4.2)."""
    assert champion_NK.shape == challenger_NK.shape
    if np.array_equal(champion_NK, challenger_NK, equal_nan=True):
        return 1.0

    null_distribution = {
        "approximate_randomisation": _randomised_differences,
        "paired_bootstrap": _centred_bootstrap_differences,
    }[method]
    sign = 1.0 if higher_is_better else -1.0
    observed = sign * score_difference(champion_NK, challenger_NK, score)
    null_R = sign * null_distribution(champion_NK, challenger_NK, score, resamples, seed)
    extreme_R = null_R >= observed - _ROUNDING * max(1.0, abs(observed))
    return (1 + int(extreme_R.sum())) / (resamples + 1)


def score_difference(champion_NK: Array, challenger_NK: Array, score: Score) -> float:
    """The challenger's score minus the champion's, over all units."""
    champion, challenger = score(np.stack([champion_NK.sum(0), challenger_NK.sum(0)]))
    return float(challenger - champion)


def resampled_differences(
    champion_NK: Array, challenger_NK: Array, score: Score, bootstrap: Bootstrap
) -> Array:
    """differences_R: the challenger's score minus the champion's on each resample."""
    champion_RK, challenger_RK = np.split(
        bootstrap.sums(np.concatenate([champion_NK, challenger_NK], 1)), 2, axis=1
    )
    differences_R: Array = score(challenger_RK) - score(champion_RK)
    return differences_R


def _randomised_differences(
    champion_NK: Array, challenger_NK: Array, score: Score, resamples: int, seed: int
) -> Array:
    """differences_R by approximate randomisation: the outputs of a unit are swapped by coin toss.

    Noreen 1989; Riezler & Maxwell 2005, "On Some Pitfalls in Automatic Evaluation and Significance
    Testing for MT". If the systems are equal and the units independent, the observed difference is
    one more such toss, so that the p-value is valid for any number of units and any score."""
    # Swapping equal units changes nothing: leave them out.
    differs_N = (champion_NK != challenger_NK).any(1)
    gap_NK = (challenger_NK - champion_NK)[differs_N]
    generator = np.random.default_rng(seed)
    champion_K = champion_NK.sum(0)
    challenger_K = challenger_NK.sum(0)

    batches = []
    batch_size = max(1, _SWAPS_PER_BATCH // len(gap_NK))
    for start in range(0, resamples, batch_size):
        rows = min(batch_size, resamples - start)
        swaps_RN = generator.integers(0, 2, (rows, len(gap_NK)), np.int8)
        moved_RK = swaps_RN.astype(np.float64) @ gap_NK
        batches.append(score(challenger_K - moved_RK) - score(champion_K + moved_RK))
    return np.concatenate(batches)


def _centred_bootstrap_differences(
    champion_NK: Array, challenger_NK: Array, score: Score, resamples: int, seed: int
) -> Array:
    """differences_R by the paired bootstrap, shifted to a mean of 0.

    Koehn 2004, "Statistical Significance Tests for Machine Translation Evaluation"; shifted as in
    `pipeline.scoring.significance.paired_p`."""
    differences_R = resampled_differences(
        champion_NK, challenger_NK, score, Bootstrap(resamples, 0.95, seed)
    )
    centred_R: Array = differences_R - differences_R.mean()
    return centred_R
