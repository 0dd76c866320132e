"""Tests of "two settings have the same expected score", for `benchmarks.calibration` to compare.

Each takes units_SUK of both settings and returns a two-sided p-value. Shapes: S seeds, U units,
K sums, R resamples."""

from collections.abc import Callable, Sequence

import numpy as np

from pipeline.scoring import seeds
from pipeline.scoring.estimated_variance import ErrorDistribution, VariancePart
from pipeline.scoring.seeds import Setting
from pipeline.scoring.significance import Array, Bootstrap, Score, paired_p

RESAMPLES = 200
SettingTest = Callable[[Array, Array, Score, np.random.Generator], float]


def chosen(first: Array, second: Array, score: Score, rng: np.random.Generator) -> float:
    """The report's test: `pipeline.scoring.seeds`. A setting with one training is a baseline."""
    return ErrorDistribution.of(_parts(first, second, score)).two_sided(
        _difference(first, second, score)
    )


def one_training_each(first: Array, second: Array, score: Score, rng: np.random.Generator) -> float:
    """Paired bootstrap over units of the first seed of each: the report before settings."""
    return _paired_bootstrap(first[:1], second[:1], score, rng)


def all_trainings(first: Array, second: Array, score: Score, rng: np.random.Generator) -> float:
    """Paired bootstrap over units of the mean scores; seeds are not resampled."""
    return _paired_bootstrap(first, second, score, rng)


def hierarchical_bootstrap(
    first: Array, second: Array, score: Score, rng: np.random.Generator
) -> float:
    """Paired bootstrap over units and over seeds (Davison & Hinkley 1997, section 3.8)."""
    units = first.shape[1]
    count_RU = rng.multinomial(units, np.full(units, 1 / units), RESAMPLES).astype(np.float64)
    means = []
    for units_SUK in (first, second):
        score_RS = np.stack([score(count_RU @ units_UK) for units_UK in units_SUK], 1)
        drawn_RS = rng.integers(0, len(units_SUK), score_RS.shape)
        means.append(np.take_along_axis(score_RS, drawn_RS, 1).mean(1))
    return paired_p(_difference(first, second, score), means[0] - means[1])


def stratified_randomization(
    first: Array, second: Array, score: Score, rng: np.random.Generator
) -> float:
    """Outputs of a unit are shuffled between all trainings of both settings (Clark et al. 2011)."""
    joined_TUK = np.concatenate([first, second])
    trainings, units, _ = joined_TUK.shape
    observed = abs(_difference(first, second, score))
    extreme = 0
    for _ in range(RESAMPLES):
        order_TU = rng.random((trainings, units)).argsort(0)
        shuffled_TK = joined_TUK[order_TU, np.arange(units)].sum(1)
        score_T = score(shuffled_TK)
        extreme += abs(score_T[: len(first)].mean() - score_T[len(first) :].mean()) >= observed
    return (1 + extreme) / (1 + RESAMPLES)


def welch_over_seeds(first: Array, second: Array, score: Score, rng: np.random.Generator) -> float:
    """Welch's t-test of the scores of the seeds: the test set is taken as all there is."""
    return _one_t(_seed_parts(first, second, score), _difference(first, second, score))


def satterthwaite(first: Array, second: Array, score: Score, rng: np.random.Generator) -> float:
    """The variance of `chosen` with Satterthwaite's degrees of freedom for the whole sum."""
    _, rows = _parts(first, second, score)
    parts = [*_seed_parts(first, second, score), rows]
    return _one_t(parts, _difference(first, second, score))


def mixed_model(first: Array, second: Array, score: Score, rng: np.random.Generator) -> float:
    """`satterthwaite` with one variance for the seeds of both settings: the model of Obuchowski &
    Rockette (1995) with the degrees of freedom of Hillis (2007)."""
    first_part, second_part = _seed_parts(first, second, score)
    variances = [first_part.variance * len(first), second_part.variance * len(second)]
    degrees = [first_part.degrees, second_part.degrees]
    pooled = float(np.average(variances, weights=degrees)) * (1 / len(first) + 1 / len(second))
    _, rows = _parts(first, second, score)
    parts = [VariancePart(pooled, sum(degrees)), rows]
    return _one_t(parts, _difference(first, second, score))


def behrens_fisher(first: Array, second: Array, score: Score, rng: np.random.Generator) -> float:
    """The variance of `chosen` with a t variable for the seeds of each setting."""
    _, rows = _parts(first, second, score)
    normal = VariancePart(rows.variance, 1e9)
    error = ErrorDistribution.of([*_seed_parts(first, second, score), normal])
    return error.two_sided(_difference(first, second, score))


# Tests with closed forms, and tests that resample.
CLOSED_FORM: dict[str, SettingTest] = {
    "chosen": chosen,
    "Satterthwaite": satterthwaite,
    "mixed model": mixed_model,
    "Behrens-Fisher": behrens_fisher,
    "Welch over seeds": welch_over_seeds,
}
RESAMPLING: dict[str, SettingTest] = {
    "hierarchical bootstrap": hierarchical_bootstrap,
    "stratified randomization": stratified_randomization,
    "bootstrap over rows": all_trainings,
    "one training each": one_training_each,
}


def _difference(first: Array, second: Array, score: Score) -> float:
    return float(score(first.sum(1)).mean() - score(second.sum(1)).mean())


def _paired_bootstrap(first: Array, second: Array, score: Score, rng: np.random.Generator) -> float:
    bootstrap = Bootstrap(RESAMPLES, 0.95, int(rng.integers(1 << 31)))
    joined = np.concatenate([*first, *second], 1)
    sums = np.split(bootstrap.sums(joined), len(first) + len(second), axis=1)
    score_RS = np.stack([score(sums_RK) for sums_RK in sums], 1)
    change_R = score_RS[:, : len(first)].mean(1) - score_RS[:, len(first) :].mean(1)
    return paired_p(_difference(first, second, score), change_R)


def _parts(first: Array, second: Array, score: Score) -> tuple[VariancePart, VariancePart]:
    settings = [Setting("", units_SUK, len(units_SUK) == 1) for units_SUK in (first, second)]
    return seeds.variance_parts(settings[0], settings[1], score)


def _seed_parts(first: Array, second: Array, score: Score) -> list[VariancePart]:
    """The variance of each mean that is due to seeds."""
    return [
        VariancePart(
            float(score(units_SUK.sum(1)).var(ddof=1)) / len(units_SUK), len(units_SUK) - 1
        )
        for units_SUK in (first, second)
    ]


def _one_t(parts: Sequence[VariancePart], difference: float) -> float:
    """p by Student's t, with Satterthwaite's degrees of freedom of the sum."""
    variance = sum(part.variance for part in parts)
    degrees = variance**2 / sum(part.variance**2 / part.degrees for part in parts)
    return ErrorDistribution.of([VariancePart(variance, degrees)]).two_sided(difference)
