"""Comparison of settings: each was trained with several seeds and scored on the same test rows.

Two sources of chance are covered: the seeds of the trainings, and the sentences of the test set.
Shapes: S seeds, N resampling units, K sums, R resamples."""

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from scipy.special import stdtr, stdtrit  # Student's t: distribution function and quantiles

from pipeline.scoring.significance import Array, Bootstrap, Score, holm


@dataclass(frozen=True, slots=True)
class SettingScore:
    """Mean of a setting's scores over its seeds; `deviation` is their sample standard deviation,
    None for one seed. `low` and `high` cover sentences, and seeds where there are several."""

    mean: float
    deviation: float | None
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class SettingPair:
    """Test of "both settings have the same expected score": `difference` is first minus second.

    `corrected` is Holm's p over all pairs. `detectable` is the difference that the test finds with
    a power of 80 %. `more_seeds` is how many more seeds of each setting would decide an open pair,
    if the observed difference were the true one; None if it is decided, or no number would."""

    first: str
    second: str
    difference: float
    low: float
    high: float
    p: float
    corrected: float
    detectable: float
    more_seeds: int | None


_LEVEL, _POWER = 0.05, 0.80
_MOST_SEEDS = 1000  # of a setting, when `more_seeds` is sought


def setting_score(units_SNK: Array, score: Score, bootstrap: Bootstrap) -> SettingScore:
    """The mean score of a setting's seeds, with its interval."""
    score_S, resampled_SR = _scores(units_SNK, score, bootstrap)
    mean = float(score_S.mean())
    if len(score_S) == 1:
        low, high = bootstrap.interval(resampled_SR[0])
        return SettingScore(mean, None, low, high)

    rows = _Variance(float(resampled_SR.mean(0).var(ddof=1)), units_SNK.shape[1] - 1)
    error, freedom = _total([rows, _seed_variance(score_S)])
    margin = error * float(stdtrit(freedom, 0.5 + bootstrap.confidence / 2))
    return SettingScore(mean, float(score_S.std(ddof=1)), mean - margin, mean + margin)


def compare_settings(
    settings: Mapping[str, Array], fitted: Set[str], score: Score, bootstrap: Bootstrap
) -> list[SettingPair]:
    """Test every setting against every later one; `settings` has the units_SNK of each, for the
    same N units.

    Each has several seeds, but for those in `fitted`, whose training has no random numbers.

    The difference of the means is divided by its standard error, and compared with Student's t. The
    variance of each setting's seeds and that of the resampled test sets are added; the degrees of
    freedom are those of Welch (1947) and Satterthwaite (1946)."""
    scores = {name: _scores(units, score, bootstrap) for name, units in settings.items()}
    units = {name: units_SNK.shape[1] for name, units_SNK in settings.items()}
    tests = []
    for first, second in combinations(settings, 2):
        (first_S, first_SR), (second_S, second_SR) = scores[first], scores[second]
        difference = float(first_S.mean() - second_S.mean())
        difference_R = first_SR.mean(0) - second_SR.mean(0)
        rows = _Variance(float(difference_R.var(ddof=1)), units[first] - 1)
        seeds = [_seed_variance(scores[name][0]) for name in (first, second) if name not in fitted]

        error, freedom = _total([rows, *seeds])
        p = _two_sided_p(difference, error, freedom)
        margin = error * float(stdtrit(freedom, 0.5 + bootstrap.confidence / 2))
        tests.append(
            SettingPair(
                first=first,
                second=second,
                difference=difference,
                low=difference - margin,
                high=difference + margin,
                p=p,
                corrected=p,
                detectable=error * _detectable_errors(freedom),
                more_seeds=None if p < _LEVEL else _more_seeds(difference, rows, seeds),
            )
        )

    corrected = holm([test.p for test in tests])
    return [replace(test, corrected=p) for test, p in zip(tests, corrected, strict=True)]


@dataclass(frozen=True, slots=True)
class _Variance:
    """An estimated variance of a mean, and its degrees of freedom."""

    value: float
    freedom: float


def _scores(units_SNK: Array, score: Score, bootstrap: Bootstrap) -> tuple[Array, Array]:
    """score_S of the seeds, and score_SR on the resamples, which all seeds share."""
    score_S = score(units_SNK.sum(1))
    resampled_SR = np.stack([score(bootstrap.sums(units_NK)) for units_NK in units_SNK])
    return score_S, resampled_SR


def _seed_variance(score_S: Array) -> _Variance:
    return _Variance(float(score_S.var(ddof=1)) / len(score_S), len(score_S) - 1)


def _total(parts: Sequence[_Variance]) -> tuple[float, float]:
    """The standard error of a sum of independent parts, and its degrees of freedom
    (Satterthwaite 1946, equation 17)."""
    total = sum(part.value for part in parts)
    if total == 0:
        return 0.0, 1.0
    divisor = sum(part.value**2 / part.freedom for part in parts)
    return math.sqrt(total), total**2 / divisor


def _two_sided_p(difference: float, error: float, freedom: float) -> float:
    if error == 0:
        return 1.0 if difference == 0 else 0.0
    return float(2 * stdtr(freedom, -abs(difference) / error))


def _detectable_errors(freedom: float) -> float:
    """The difference, in standard errors, that a two-sided test finds with the power `_POWER`."""
    return float(stdtrit(freedom, 1 - _LEVEL / 2) + stdtrit(freedom, _POWER))


def _more_seeds(difference: float, rows: _Variance, seeds: Sequence[_Variance]) -> int | None:
    """How many more seeds of each setting make the difference detectable."""
    counts = [int(part.freedom) + 1 for part in seeds]
    for more in range(1, _MOST_SEEDS):
        grown = [
            _Variance(part.value * count / (count + more), count + more - 1)
            for part, count in zip(seeds, counts, strict=True)
        ]
        error, freedom = _total([rows, *grown])
        if error * _detectable_errors(freedom) <= abs(difference):
            return more
    return None
