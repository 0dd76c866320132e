"""Cross-validated settings: their mean scores over the folds, and the test between two.

The training texts of folds overlap, so scores of folds depend on each other, and their variance is
too small for that of the mean. The corrected resampled t-test (Nadeau & Bengio 2003, equation 9)
adds the ratio of test and training rows:

    variance of the mean = (1 / F + test rows / training rows) * variance over the F folds

with F - 1 degrees of freedom. The differences of two settings are taken fold by fold, over the
folds that both have. Training texts, test texts and seeds should all vary between folds. Then one
training of each fold is enough; with several seeds, a fold's score is their mean.

Values that are the same on every fold have no variance to estimate an error from, as those of two
small folds often are by chance. Their interval is infinite, and their difference has p = 1.

Shapes: F folds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline.scoring.estimated_variance import ErrorDistribution, VariancePart
from pipeline.scoring.seeds import POWER
from pipeline.scoring.significance import Array, holm

_ROUNDING = 1e-9  # differences of scores that are smaller, relative to the scores, are none


@dataclass(frozen=True, slots=True)
class FoldScores:
    """A setting's score on each fold, by the fold's name."""

    name: str
    score: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class FoldScore:
    """The mean score of a setting over folds, their sample standard deviation, and the interval of
    the expected score from `low` to `high`."""

    mean: float
    deviation: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class FoldPair:
    """The test of "two settings have the same expected score" over the same folds.

    `difference` is first minus second, with its interval. `corrected` is Holm's p over all pairs.
    `detectable` is the true difference that is found with a probability of 80 %, at the level that
    Holm's correction asks for as long as no other pair differs. `folds` is how many both have."""

    first: str
    second: str
    folds: int
    difference: float
    low: float
    high: float
    p: float
    corrected: float
    detectable: float


def overlap_ratio(folds: int) -> float:
    """Ratio of test and training rows of `folds` folds, one of which is test and one valid."""
    return 1 / (folds - 2)


def estimate_folds(scores_F: Array, ratio: float, confidence: float) -> FoldScore:
    """Estimate the expected score of a setting from at least two folds; `ratio` is that of test and
    training rows."""
    mean = float(scores_F.mean())
    width = math.inf
    if _vary(scores_F, scores_F):
        width = _error(scores_F, ratio).quantile(1 - confidence)
    return FoldScore(mean, float(scores_F.std(ddof=1)), mean - width, mean + width)


def compare_folds(
    pairs: Sequence[tuple[FoldScores, FoldScores]], ratio: float, confidence: float, level: float
) -> list[FoldPair]:
    """Test all pairs of a table, with Holm's correction for their number.

    Pairs that have fewer than two folds in common are left out."""
    tested = [(first, second) for first, second in pairs if len(_shared(first, second)) > 1]
    tests = [_compare(*pair, ratio, confidence, level / len(tested)) for pair in tested]
    corrected = holm([test.p for test in tests])
    return [replace(test, corrected=p) for test, p in zip(tests, corrected, strict=True)]


def _shared(first: FoldScores, second: FoldScores) -> list[str]:
    return [fold for fold in first.score if fold in second.score]


def _compare(
    first: FoldScores, second: FoldScores, ratio: float, confidence: float, level: float
) -> FoldPair:
    folds = _shared(first, second)
    first_F, second_F = (
        np.array([setting.score[fold] for fold in folds]) for setting in (first, second)
    )
    change_F = first_F - second_F
    difference = float(change_F.mean())

    p = 1.0
    width = detectable = math.inf
    if _vary(change_F, first_F):
        error = _error(change_F, ratio)
        p = error.two_sided(difference)
        width = error.quantile(1 - confidence)
        detectable = error.detectable(level, POWER)
    return FoldPair(
        first=first.name,
        second=second.name,
        folds=len(folds),
        difference=difference,
        low=difference - width,
        high=difference + width,
        p=p,
        corrected=p,
        detectable=detectable,
    )


def _vary(values_F: Array, scores_F: Array) -> bool:
    """Return whether values differ by more than the rounding errors of the scores."""
    return float(np.ptp(values_F)) > _ROUNDING * float(np.abs(scores_F).max())


def _error(values_F: Array, ratio: float) -> ErrorDistribution:
    variance = (1 / len(values_F) + ratio) * float(values_F.var(ddof=1))
    return ErrorDistribution.of([VariancePart(variance, len(values_F) - 1)])
