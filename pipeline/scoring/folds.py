"""Cross-validated settings: their mean scores over the folds, and the test between two.

The training texts of folds overlap, so scores of folds depend on each other, and their variance is
too small for that of the mean. The corrected resampled t-test (Nadeau & Bengio 2003, equation 9)
adds the ratio of test and training rows:

    variance of the mean = (1 / F + test rows / training rows) * variance over the F folds

with F - 1 degrees of freedom. The differences of two settings are taken fold by fold, as both have
the same folds. Seeds, training texts and test texts all vary between folds, so one training of each
fold is enough; with several seeds, a fold's score is their mean.

Shapes: F folds."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations

from pipeline.core.errors import refuse
from pipeline.scoring.estimated_variance import ErrorDistribution, VariancePart
from pipeline.scoring.seeds import POWER
from pipeline.scoring.significance import Array, holm


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
    Holm's correction asks for as long as no other pair differs."""

    first: str
    second: str
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
    """Estimate the expected score of a setting; `ratio` is that of test and training rows."""
    _check("a setting", scores_F)
    mean = float(scores_F.mean())
    width = _error(scores_F, ratio).quantile(1 - confidence)
    return FoldScore(mean, float(scores_F.std(ddof=1)), mean - width, mean + width)


def compare_folds(
    settings: Mapping[str, Array], ratio: float, confidence: float, level: float
) -> list[FoldPair]:
    """Test every setting against every later one, with Holm's correction.

    `settings` has the scores_F of each, of the same F folds. UserError for a single fold."""
    for name, scores_F in settings.items():
        _check(name, scores_F)
    named = list(combinations(settings, 2))

    pairs = []
    for first, second in named:
        change_F = settings[first] - settings[second]
        difference = float(change_F.mean())
        error = _error(change_F, ratio)
        width = error.quantile(1 - confidence)
        p = error.two_sided(difference)
        pairs.append(
            FoldPair(
                first=first,
                second=second,
                difference=difference,
                low=difference - width,
                high=difference + width,
                p=p,
                corrected=p,
                detectable=error.detectable(level / len(named), POWER),
            )
        )
    corrected = holm([pair.p for pair in pairs])
    return [replace(pair, corrected=p) for pair, p in zip(pairs, corrected, strict=True)]


def _error(values_F: Array, ratio: float) -> ErrorDistribution:
    variance = (1 / len(values_F) + ratio) * float(values_F.var(ddof=1))
    return ErrorDistribution.of([VariancePart(variance, len(values_F) - 1)])


def _check(name: str, scores_F: Array) -> None:
    if len(scores_F) < 2:
        expected = "at least 2 folds to compare settings"
        raise refuse(f"runs.{name}", f"{len(scores_F)} fold", expected, "Add runs on other folds.")
