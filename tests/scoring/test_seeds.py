"""Tests between settings: SciPy's t-tests, brute force and simulations are the oracles."""

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pipeline.core.errors import UserError
from pipeline.scoring import mt_metrics
from pipeline.scoring.estimated_variance import ErrorDistribution
from pipeline.scoring.seeds import (
    POWER,
    Setting,
    compare,
    compare_all,
    compare_pairs,
    estimate,
    variance_parts,
)
from pipeline.scoring.significance import Array, Bootstrap, holm

CONFIDENCE, LEVEL = 0.95, 0.05


def mean(sums_RK: Array) -> Array:
    return sums_RK[:, 0] / sums_RK[:, 1]


def of_values(name: str, values_SU: Array, is_deterministic: bool = False) -> Setting:
    """A setting whose score is the mean of a value for each unit."""
    values_SU = np.asarray(values_SU, np.float64)
    return Setting(name, np.stack([values_SU, np.ones_like(values_SU)], 2), is_deterministic)


def of_scores(name: str, scores: list[float], units: int = 50) -> Setting:
    """A setting whose units are all alike: other rows would change nothing."""
    return of_values(name, np.tile(np.array(scores)[:, None], (1, units)))


def drawn(
    rng: np.random.Generator,
    name: str,
    seeds: int = 3,
    units: int = 200,
    seed_deviation: float = 1.0,
    unit_deviation: float = 10.0,
    gain: float = 0.0,
) -> Setting:
    values_SU = gain + seed_deviation * rng.standard_normal((seeds, 1))
    values_SU = values_SU + 10 * rng.standard_normal(units)
    return of_values(name, values_SU + unit_deviation * rng.standard_normal((seeds, units)))


# The seeds' part


@given(st.lists(st.floats(-50, 50), min_size=2, max_size=6, unique=True))
def test_against_a_fixed_score_it_is_the_t_test_of_one_sample(scores: list[float]) -> None:
    scores = [round(score, 3) + i for i, score in enumerate(scores)]
    baseline = of_values("baseline", np.full((1, 50), 7.0), is_deterministic=True)
    found = compare(of_scores("a", scores), baseline, mean, CONFIDENCE, LEVEL)
    expected = stats.ttest_1samp(scores, 7.0)
    interval = expected.confidence_interval(CONFIDENCE)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-4)
    assert (found.low + 7, found.high + 7) == pytest.approx(tuple(interval), rel=1e-5)


def test_it_is_welchs_test_if_one_setting_has_no_spread() -> None:
    first, second = [83.0, 89.9, 93.2], [85.0] * 3
    found = compare(of_scores("a", first), of_scores("b", second), mean, CONFIDENCE, LEVEL)
    expected = stats.ttest_ind(first, second, equal_var=False)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-4)
    assert found.degrees == pytest.approx(expected.df)


@given(
    *[st.lists(st.floats(0, 50), min_size=2, max_size=8, unique=True)] * 2,
)
def test_it_is_more_cautious_than_welchs_test_only_in_its_degrees_of_freedom(
    first: list[float], second: list[float]
) -> None:
    first = [round(score, 2) + i for i, score in enumerate(first)]
    second = [round(score, 2) + i for i, score in enumerate(second)]
    settings = of_scores("a", first), of_scores("b", second)
    found = compare(*settings, mean, CONFIDENCE, LEVEL)
    seeds, rows = variance_parts(*settings, mean)
    expected = stats.ttest_ind(first, second, equal_var=False)
    assert rows.variance == pytest.approx(0, abs=1e-12)
    assert found.difference / found.seed_error == pytest.approx(expected.statistic)

    fewest = min(len(first), len(second)) - 1
    assert seeds.degrees == pytest.approx(2 / (1 / expected.df + 1 / fewest))
    assert found.p == pytest.approx(
        2 * stats.t.sf(abs(expected.statistic), seeds.degrees), rel=1e-3
    )
    assert found.p >= expected.pvalue * (1 - 1e-6)


def test_the_interval_of_a_setting_is_students_over_its_seeds() -> None:
    scores = [44.99, 33.55, 28.00]
    found = estimate(of_scores("a", scores), mean, CONFIDENCE)
    interval = stats.ttest_1samp(scores, 0).confidence_interval(CONFIDENCE)
    assert (found.low, found.high) == pytest.approx(tuple(interval), rel=1e-6)
    assert found.deviation == pytest.approx(np.std(scores, ddof=1))
    assert found.mean == pytest.approx(np.mean(scores))
    assert found.scores == pytest.approx(tuple(scores))


# The rows' part


def test_without_random_numbers_it_is_the_paired_t_test_of_the_units() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.normal([[0.3], [0.0]], 1, (2, 40))
    settings = [
        of_values(name, values[None], True) for name, values in (("a", first), ("b", second))
    ]
    found = compare(*settings, mean, CONFIDENCE, LEVEL)
    expected = stats.ttest_rel(first, second)
    interval = expected.confidence_interval(CONFIDENCE)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-4)
    assert (found.low, found.high) == pytest.approx(tuple(interval), rel=1e-5)
    assert found.degrees == 39


def test_variance_of_rows_is_the_covariance_between_trainings() -> None:
    rng = np.random.default_rng(2)
    first, second = (rng.normal(0, 1, (seeds, 60)) + rng.normal(0, 1, 60) for seeds in (3, 4))
    _, rows = variance_parts(of_values("a", first), of_values("b", second), mean)

    # Brute force over all pairs of trainings.
    covariance = np.cov(np.concatenate([first, second])) / 60
    own = [
        np.mean([covariance[i, j] for i, j in permutations(range(start, end), 2)])
        for start, end in ((0, 3), (3, 7))
    ]
    expected = own[0] + own[1] - 2 * covariance[:3, 3:].mean()
    assert rows.variance == pytest.approx(expected)
    assert rows.degrees == 59


def test_variance_of_rows_is_that_of_the_bootstrap_for_bleu() -> None:
    rng = np.random.default_rng(3)
    units_SUK = []
    for _ in range(2):
        length_U = rng.integers(5, 15, 150)
        share_U = rng.uniform(0.3, 0.9, 150)
        totals = [np.maximum(length_U - n, 0) for n in range(4)]
        matches = [np.floor(total * share_U ** (n + 1)) for n, total in enumerate(totals)]
        units_SUK.append(np.stack([length_U, length_U, *matches, *totals], 1).astype(float))
    settings = [
        Setting(name, units[None], True) for name, units in zip("ab", units_SUK, strict=True)
    ]
    found = compare(*settings, mt_metrics.bleu, CONFIDENCE, LEVEL)
    sums = np.split(Bootstrap(4000, 0.95, 1).sums(np.concatenate(units_SUK, 1)), 2, axis=1)
    resampled = mt_metrics.bleu(sums[0]) - mt_metrics.bleu(sums[1])
    assert found.row_error == pytest.approx(resampled.std(), rel=0.05)
    assert (found.low, found.high) == pytest.approx(
        (*np.quantile(resampled, [0.025, 0.975]),), abs=0.1 * resampled.std() * 2
    )


def test_rest_of_single_trainings_is_counted_once() -> None:
    rng = np.random.default_rng(4)
    estimated = []
    observed = []
    for _ in range(400):
        first, second = (drawn(rng, name, seed_deviation=0.0) for name in "ab")
        estimated.append(sum(part.variance for part in variance_parts(first, second, mean)))
        observed.append(compare(first, second, mean, CONFIDENCE, LEVEL).difference)
    assert np.mean(estimated) == pytest.approx(np.var(observed), rel=0.2)


# Pairs and tables


def test_the_order_of_two_settings_changes_the_sign_only() -> None:
    rng = np.random.default_rng(5)
    first, second = drawn(rng, "a", seeds=3), drawn(rng, "b", seeds=5)
    one = compare(first, second, mean, CONFIDENCE, LEVEL)
    other = compare(second, first, mean, CONFIDENCE, LEVEL)
    assert (one.first, one.second) == (other.second, other.first)
    assert one.difference == pytest.approx(-other.difference)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
    assert (one.p, one.detectable) == pytest.approx((other.p, other.detectable))
    assert one.more_seeds == other.more_seeds


def test_a_setting_does_not_differ_from_itself() -> None:
    setting = drawn(np.random.default_rng(6), "a")
    found = compare(setting, setting, mean, CONFIDENCE, LEVEL)
    assert (found.p, found.difference) == (1.0, 0.0)
    assert found.low < 0 < found.high


def test_intervals_exclude_zero_exactly_if_p_is_below_the_level() -> None:
    rng = np.random.default_rng(7)
    for gain in (0.0, 2.0, 4.0, 6.0) * 5:
        found = compare(drawn(rng, "a", gain=gain), drawn(rng, "b"), mean, CONFIDENCE, LEVEL)
        assert (found.p < LEVEL) == (found.low > 0 or found.high < 0)


def test_p_values_of_all_pairs_are_corrected_and_settings_with_one_seed_left_out() -> None:
    rng = np.random.default_rng(8)
    settings = [drawn(rng, name, gain=gain) for name, gain in (("a", 0.0), ("b", 0.1), ("c", 30.0))]
    alone = of_values("alone", rng.normal(0, 1, (1, 200)))
    baseline = of_values("baseline", rng.normal(0, 1, (1, 200)), is_deterministic=True)
    pairs = compare_all([*settings, alone, baseline], mean, CONFIDENCE, LEVEL)
    assert [(pair.first, pair.second) for pair in pairs] == [
        ("a", "b"),
        ("a", "c"),
        ("a", "baseline"),
        ("b", "c"),
        ("b", "baseline"),
        ("c", "baseline"),
    ]
    for pair in pairs:
        assert pair.p <= pair.corrected <= min(1.0, 6 * pair.p)
        assert (pair.more_seeds == 0) == (pair.corrected < LEVEL)
    assert {pair.second for pair in pairs if pair.corrected < LEVEL} == {"c", "baseline"}


def test_pairs_of_a_table_are_corrected_together() -> None:
    rng = np.random.default_rng(15)
    settings = {
        name: drawn(rng, name, gain=gain) for name, gain in zip("abcd", (0, 4, 0, 4), strict=True)
    }
    named = [(settings["a"], settings["b"]), (settings["c"], settings["d"])]
    pairs = compare_pairs(named, mean, CONFIDENCE, LEVEL)
    alone = [compare(*pair, mean, CONFIDENCE, LEVEL) for pair in named]
    assert [(pair.first, pair.second) for pair in pairs] == [("a", "b"), ("c", "d")]
    assert [pair.corrected for pair in pairs] == holm([pair.p for pair in alone])
    assert all(pair.detectable > one.detectable for pair, one in zip(pairs, alone, strict=True))
    assert all((pair.more_seeds == 0) == (pair.corrected < LEVEL) for pair in pairs)


def test_one_seed_supports_no_claim() -> None:
    rng = np.random.default_rng(9)
    alone = of_values("alone", rng.normal(0, 1, (1, 50)))
    found = estimate(alone, mean, CONFIDENCE)
    assert (found.deviation, found.low, found.high) == (None, None, None)
    assert found.row_error > 0
    message = r"runs\.alone\.seeds: got 1 seed; expected at least 2 seeds"
    for settings in ((alone, drawn(rng, "b", units=50)), (drawn(rng, "b", units=50), alone)):
        with pytest.raises(UserError, match=message):
            compare(*settings, mean, CONFIDENCE, LEVEL)


def test_a_test_set_of_one_unit_supports_no_claim() -> None:
    settings = [of_values(name, [[1.0], [2.0]]) for name in "ab"]
    assert estimate(settings[0], mean, CONFIDENCE).low is None
    with pytest.raises(UserError, match=r"runs\.a: got a test set of one resampling unit"):
        compare(*settings, mean, CONFIDENCE, LEVEL)
    assert compare_all(settings, mean, CONFIDENCE, LEVEL) == []


def test_few_units_without_any_spread_are_no_proof() -> None:
    settings = [
        of_values(name, np.full((1, 4), value), True) for name, value in (("a", 1.0), ("b", 0.0))
    ]
    assert compare(*settings, mean, CONFIDENCE, LEVEL).p == 0.125  # 2 of 2 ** 4 swaps


# Planning


def test_more_seeds_are_the_fewest_that_make_the_difference_detectable() -> None:
    rng = np.random.default_rng(10)
    first, second = drawn(rng, "a", 3, 2000, 2.0, gain=3.0), drawn(rng, "b", 3, 2000)
    found = compare(first, second, mean, CONFIDENCE, LEVEL)
    assert found.more_seeds

    def detectable(more: int) -> float:
        """By hand, from the errors of the pair."""
        spreads = [np.var(estimate(s, mean, CONFIDENCE).scores, ddof=1) for s in (first, second)]
        parts = [variance / (3 + more) for variance in spreads]
        welch = sum(parts) ** 2 / sum(part**2 / (2 + more) for part in parts)
        degrees = 2 / (1 / welch + 1 / (2 + more))
        rows = variance_parts(first, second, mean)[1]
        seeds = type(rows)(sum(parts), degrees)
        return ErrorDistribution.of([seeds, rows]).detectable(LEVEL, POWER)

    size = abs(found.difference)
    assert detectable(0) == pytest.approx(found.detectable)
    assert detectable(found.more_seeds) <= size < detectable(found.more_seeds - 1)


def test_no_number_of_seeds_replaces_a_larger_test_set() -> None:
    rng = np.random.default_rng(11)
    shared = 10 * rng.standard_normal((2, 30))
    settings = [
        of_values(name, rows + 0.1 * rng.standard_normal((3, 1)))
        for name, rows in zip("ab", shared, strict=True)
    ]
    found = compare(*settings, mean, CONFIDENCE, LEVEL)
    assert found.row_error > 10 * found.seed_error
    assert found.more_seeds is None


@pytest.mark.parametrize("deviation", [0.2, 2.0])
def test_the_detectable_difference_is_found_in_four_of_five_cases(deviation: float) -> None:
    rng = np.random.default_rng(12)
    draw = lambda name, gain: drawn(  # noqa: E731
        rng, name, units=60, seed_deviation=deviation, gain=gain
    )
    planned = [
        compare(draw("a", 0.0), draw("b", 0.0), mean, CONFIDENCE, LEVEL).detectable
        for _ in range(100)
    ]
    gain = float(np.mean(planned))
    found = [
        compare(draw("a", gain), draw("b", 0.0), mean, CONFIDENCE, LEVEL).p for _ in range(300)
    ]
    assert 0.7 < np.mean(np.array(found) < LEVEL) < 0.95


def test_errors_shrink_with_seeds_and_with_rows() -> None:
    rng = np.random.default_rng(13)
    widths = {}
    for seeds, units in ((3, 100), (12, 100), (12, 1600)):
        pairs = [
            compare(
                drawn(rng, "a", seeds, units),
                drawn(rng, "b", seeds, units),
                mean,
                CONFIDENCE,
                LEVEL,
            )
            for _ in range(20)
        ]
        widths[seeds, units] = np.mean([pair.high - pair.low for pair in pairs])
    assert math.inf > widths[3, 100] > widths[12, 100] > widths[12, 1600]
