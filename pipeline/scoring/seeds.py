"""Settings that are trained with several seeds: their mean scores, and the test between two.

A claim about settings must survive other seeds and another test set. So the variance of a
difference of means has a part for the seeds and a part for the rows, as in studies with several
readers and cases (Obuchowski & Rockette 1995):

    seeds: s_1^2 / S_1 + s_2^2 / S_2     s^2: variance of the scores of S seeds
    rows:  c_11 + c_22 - 2 c_12          c: mean covariance of the scores of two trainings when
                                         rows are resampled

Both s^2 and a covariance of a training with itself have the variance that rows cause in single
trainings. It is counted once, in s^2. The covariances are those of the jackknife over resampling
units (Efron & Stein 1981), which the bootstrap estimates with random numbers.

The rows' part has the number of units less one as its degrees of freedom. The seeds' part has the
harmonic mean of Welch's (1947) and of those of the setting with fewer seeds. Welch takes them from
variances that few seeds give no good idea of: with three seeds each, his test calls up to 6 % of
equal settings different if one varies much more with the seed. The sum of the two errors has the
distribution of `ErrorDistribution`. `benchmarks/calibration.py` has the error rates of this and
other tests.

Shapes: S seeds, U resampling units, K sums."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from pipeline.core.errors import refuse
from pipeline.scoring.estimated_variance import ErrorDistribution, VariancePart
from pipeline.scoring.significance import Array, Score, holm

POWER = 0.8  # for the minimum detectable difference, and for the number of seeds that would decide
MOST_SEEDS = 1000  # of a setting, in the search for that number


@dataclass(frozen=True, slots=True)
class Setting:
    """The trainings of a setting, which differ in their seed only.

    `units_SUK`: sums of each seed and resampling unit. `is_deterministic`: training draws no random
    number, so that one training is enough and the variance over seeds is 0."""

    name: str
    units_SUK: Array
    is_deterministic: bool

    @property
    def seeds(self) -> int:
        """The number of trainings."""
        return len(self.units_SUK)

    @property
    def is_testable(self) -> bool:
        """True if the variances over seeds and over units can be estimated."""
        return self.units_SUK.shape[1] > 1 and (self.is_deterministic or self.seeds > 1)


@dataclass(frozen=True, slots=True)
class SettingScore:
    """The score of a setting.

    `scores` has the score of each seed, `mean` their mean, `deviation` their sample standard
    deviation. `low` to `high` is the interval of the expected score over seeds and test sets.
    `row_error` is the standard error of the mean that is due to the test set alone. For a single
    seed `deviation`, `low` and `high` are None: it says nothing about other seeds."""

    scores: tuple[float, ...]
    mean: float
    deviation: float | None
    low: float | None
    high: float | None
    row_error: float


@dataclass(frozen=True, slots=True)
class SettingPair:
    """The test of "two settings have the same expected score", over seeds and test sets.

    `difference` is the mean of `first` minus that of `second`, with the interval from `low` to
    `high`. `corrected` is Holm's p over all pairs. `seed_error` and `row_error` are the standard
    errors that are due to seeds and to rows. `degrees` are Satterthwaite's degrees of freedom of
    both together, for the reader: the test does not use them.

    `detectable` is the true difference that is found with a probability of 80 %. `more_seeds` is
    the number of further seeds of each setting with which a true difference as large as this one
    would be found with 80 %: 0 if it is significant already, and None if no number is enough, as
    the test set is too small. Both are for `level` divided by the number of pairs: Holm's
    correction asks for that as long as no other pair differs."""

    first: str
    second: str
    difference: float
    low: float
    high: float
    p: float
    corrected: float
    seed_error: float
    row_error: float
    degrees: float
    detectable: float
    more_seeds: int | None


def estimate(setting: Setting, score: Score, confidence: float) -> SettingScore:
    """Estimate the expected score of a setting, with an interval of the given confidence."""
    scores = _scores(setting, score)
    rows = _row_variance([setting], score)
    result = SettingScore(
        scores=tuple(scores.tolist()),
        mean=float(scores.mean()),
        deviation=None,
        low=None,
        high=None,
        row_error=math.sqrt(rows.variance),
    )
    if not setting.is_testable:
        return result

    seeds = _seed_variance([_SeedSpread.of(setting, score)])
    width = ErrorDistribution.of([seeds, rows]).quantile(1 - confidence)
    return replace(
        result,
        deviation=math.sqrt(seeds.variance * setting.seeds),
        low=result.mean - width,
        high=result.mean + width,
    )


def compare(
    first: Setting, second: Setting, score: Score, confidence: float, level: float
) -> SettingPair:
    """Test two settings, which were scored on the same units.

    UserError if one of them has a single seed and is not deterministic, or if the test set is a
    single unit."""
    for setting in (first, second):
        if not setting.is_testable:
            raise _too_few(setting)
    return _compare(first, second, score, confidence, level, pairs=1)


def compare_all(
    settings: Sequence[Setting], score: Score, confidence: float, level: float
) -> list[SettingPair]:
    """Test every setting against every later one, as `compare_pairs`."""
    return compare_pairs(list(combinations(settings, 2)), score, confidence, level)


def compare_pairs(
    pairs: Sequence[tuple[Setting, Setting]], score: Score, confidence: float, level: float
) -> list[SettingPair]:
    """Test all pairs of a table, with Holm's correction for their number.

    Pairs that have a setting with a single seed are left out, unless it is deterministic."""
    tested = [pair for pair in pairs if all(setting.is_testable for setting in pair)]
    tests = [_compare(*pair, score, confidence, level, len(tested)) for pair in tested]
    corrected = holm([test.p for test in tests])
    return [
        replace(test, corrected=p, more_seeds=0 if p < level else test.more_seeds)
        for test, p in zip(tests, corrected, strict=True)
    ]


def variance_parts(
    first: Setting, second: Setting, score: Score
) -> tuple[VariancePart, VariancePart]:
    """Variances of the difference of two settings' means that are due to seeds and to rows."""
    spreads = [_SeedSpread.of(setting, score) for setting in (first, second)]
    return _seed_variance(spreads), _row_variance((first, second), score)


def _compare(
    first: Setting, second: Setting, score: Score, confidence: float, level: float, pairs: int
) -> SettingPair:
    assert first.units_SUK.shape[1:] == second.units_SUK.shape[1:]
    spreads = [_SeedSpread.of(setting, score) for setting in (first, second)]
    rows = _row_variance((first, second), score)
    seeds = _seed_variance(spreads)
    error = ErrorDistribution.of([seeds, rows])
    difference = spreads[0].mean - spreads[1].mean

    # A randomization test of U units has no smaller p-value. It matters if there is no variance.
    p = max(error.two_sided(difference), 2.0 ** (1 - first.units_SUK.shape[1]))
    width = error.quantile(1 - confidence)
    is_open = p >= level / pairs
    return SettingPair(
        first=first.name,
        second=second.name,
        difference=difference,
        low=difference - width,
        high=difference + width,
        p=p,
        corrected=p,
        seed_error=math.sqrt(seeds.variance),
        row_error=math.sqrt(rows.variance),
        degrees=_degrees([seeds, rows]),
        detectable=error.detectable(level / pairs, POWER),
        more_seeds=_seeds_to_decide(difference, spreads, rows, level / pairs) if is_open else 0,
    )


def _scores(setting: Setting, score: Score) -> Array:
    scores_S: Array = score(setting.units_SUK.sum(1))
    return scores_S


@dataclass(frozen=True, slots=True)
class _SeedSpread:
    """Mean and variance of a setting's scores over its seeds."""

    mean: float
    variance: float
    seeds: int
    is_deterministic: bool

    @staticmethod
    def of(setting: Setting, score: Score) -> "_SeedSpread":
        scores_S = _scores(setting, score)
        variance = 0.0 if setting.is_deterministic else float(scores_S.var(ddof=1))
        return _SeedSpread(
            float(scores_S.mean()), variance, setting.seeds, setting.is_deterministic
        )


def _seed_variance(spreads: Sequence[_SeedSpread], more_seeds: int = 0) -> VariancePart:
    """Variance of the difference of means (or of a mean) that is due to seeds; `more_seeds` are
    added to each setting."""
    parts = []
    for spread in spreads:
        seeds = spread.seeds + more_seeds
        if not spread.is_deterministic:
            parts.append(VariancePart(spread.variance / seeds, seeds - 1))

    # A deterministic setting has no part.
    variance = math.fsum(part.variance for part in parts)
    fewest = min((part.degrees for part in parts), default=1)
    return VariancePart(variance, 2 / (1 / _degrees(parts) + 1 / fewest) if variance else fewest)


def _degrees(parts: Sequence[VariancePart]) -> float:
    """Degrees of freedom of a sum of variances (Welch 1947, Satterthwaite 1946)."""
    total = math.fsum(part.variance for part in parts)
    if total == 0:
        return math.fsum(part.degrees for part in parts)
    return total**2 / math.fsum(part.variance**2 / part.degrees for part in parts)


@dataclass(frozen=True, slots=True)
class _Jackknife:
    """Changes of a setting's scores by leaving out a unit, scaled so that their product, summed
    over units, is a covariance; `mean_U` is the mean over seeds."""

    mean_U: Array
    within: float  # variance of the mean that rows cause in single trainings

    @staticmethod
    def of(setting: Setting, score: Score) -> "_Jackknife":
        seeds, units, sums = setting.units_SUK.shape
        if units == 1:
            return _Jackknife(np.zeros(1), 0.0)

        without_SUK = setting.units_SUK.sum(1, keepdims=True) - setting.units_SUK
        score_SU = score(without_SUK.reshape(-1, sums)).reshape(seeds, units)
        change_SU = score_SU - score_SU.mean(1, keepdims=True)
        change_SU *= math.sqrt((units - 1) / units)

        # A covariance of a training with itself is larger than that of two trainings.
        mean_U = change_SU.mean(0)
        within = 0.0
        if not setting.is_deterministic and seeds > 1:
            own = float((change_SU**2).sum()) / seeds
            within = (own - float((mean_U**2).sum())) / (seeds - 1)
        return _Jackknife(mean_U, within)


def _row_variance(settings: Sequence[Setting], score: Score) -> VariancePart:
    """Variance of the difference of two settings' means (or of a mean) that is due to rows, without
    that which rows cause in single trainings."""
    jackknives = [_Jackknife.of(setting, score) for setting in settings]
    change_U = jackknives[0].mean_U
    if len(jackknives) == 2:
        change_U = change_U - jackknives[1].mean_U
    variance = float((change_U**2).sum()) - sum(jackknife.within for jackknife in jackknives)
    return VariancePart(max(variance, 0.0), max(len(change_U) - 1, 1))


def _seeds_to_decide(
    difference: float, spreads: Sequence[_SeedSpread], rows: VariancePart, level: float
) -> int | None:
    """The fewest further seeds of each setting with which `difference` is detectable; None if there
    are none up to MOST_SEEDS."""

    def decides(more_seeds: int) -> bool:
        error = ErrorDistribution.of([_seed_variance(spreads, more_seeds), rows])
        return error.detectable(level, POWER) <= abs(difference)

    most = MOST_SEEDS - max(spread.seeds for spread in spreads)
    if most < 1 or not decides(most):
        return None

    # The detectable difference falls with each seed: search by halving.
    fewest = 1
    while fewest < most:
        middle = (fewest + most) // 2
        if decides(middle):
            most = middle
        else:
            fewest = middle + 1
    return most


def _too_few(setting: Setting) -> Exception:
    if setting.units_SUK.shape[1] < 2:
        return refuse(
            f"runs.{setting.name}",
            "a test set of one resampling unit",
            "at least two, such as sentences or windows of a text",
            "Enlarge the corpus's test split.",
        )
    return refuse(
        f"runs.{setting.name}.seeds",
        f"{setting.seeds} seed",
        "at least 2 seeds to compare settings",
        "Add seeds and run `dvc repro`.",
    )
