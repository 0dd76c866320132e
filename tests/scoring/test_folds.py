"""Tests between cross-validated settings, with SciPy and simulated learners as oracles."""

import math
from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from benchmarks.gate import binomial_limit
from pipeline.scoring import folds
from pipeline.scoring.folds import FoldPair, FoldScores, compare_folds, estimate_folds

CONFIDENCE, LEVEL, FOLDS = 0.95, 0.05, 10
RATIO = folds.overlap_ratio(FOLDS)


def compare(settings: Mapping[str, np.ndarray], ratio: float = RATIO) -> list[FoldPair]:
    """Test every setting against every later one; a NaN is a fold that a setting lacks."""
    named = [
        FoldScores(name, {str(i): float(x) for i, x in enumerate(scores_F) if x == x})
        for name, scores_F in settings.items()
    ]
    return compare_folds(list(combinations(named, 2)), ratio, CONFIDENCE, LEVEL)


def test_without_overlap_it_is_the_paired_t_test() -> None:
    first, second = np.random.default_rng(1).normal([[80.0], [79.0]], 2, (2, FOLDS))
    [found] = compare({"a": first, "b": second}, ratio=0.0)
    expected = stats.ttest_rel(first, second)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-4)
    interval = tuple(expected.confidence_interval(CONFIDENCE))
    assert (found.low, found.high) == pytest.approx(interval, rel=1e-5)
    score = estimate_folds(first, 0.0, CONFIDENCE)
    interval = tuple(stats.ttest_1samp(first, 0).confidence_interval(CONFIDENCE))
    assert (score.low, score.high) == pytest.approx(interval, rel=1e-5)


def test_the_test_is_that_of_nadeau_and_bengio() -> None:
    """Equation 9 of the paper, written out: t has the corrected variance, and F - 1 degrees."""
    first, second = np.random.default_rng(5).normal([[80.0], [79.0]], 2, (2, FOLDS))
    [found] = compare({"a": first, "b": second})
    mean = sum(first - second) / FOLDS
    variance = sum((change - mean) ** 2 for change in first - second) / (FOLDS - 1)
    t = mean / math.sqrt((1 / FOLDS + 1 / 8) * variance)
    assert found.p == pytest.approx(2 * stats.t.sf(abs(t), FOLDS - 1), rel=1e-4)


def test_overlap_widens_intervals_by_the_factor_of_nadeau_and_bengio() -> None:
    scores_F = np.random.default_rng(2).normal(80, 2, FOLDS)
    plain, corrected = (estimate_folds(scores_F, ratio, CONFIDENCE) for ratio in (0.0, RATIO))
    factor = (1 / 10 + 1 / 8) / (1 / 10)
    assert (corrected.high - corrected.low) ** 2 == pytest.approx(
        factor * (plain.high - plain.low) ** 2
    )


def accuracies(features_ND: np.ndarray, label_N: np.ndarray, folds: int = FOLDS) -> np.ndarray:
    """scores_F of least squares on the fold's training rows; the fold after it is left out too."""
    fold_N = np.arange(len(label_N)) % folds
    scores = []
    for fold in range(folds):
        train_N = (fold_N != fold) & (fold_N != (fold + 1) % folds)
        weights_D, *_ = np.linalg.lstsq(features_ND[train_N], label_N[train_N], rcond=None)
        test_N = fold_N == fold
        scores.append(100 * np.mean(np.sign(features_ND[test_N] @ weights_D) == label_N[test_N]))
    return np.array(scores)


def equal_learners(rng: np.random.Generator, learners: int, folds: int) -> dict[str, np.ndarray]:
    """Accuracies of learners that see different features of the same rows, each as telling as the
    others."""
    label_N = rng.choice([-1.0, 1.0], 200)
    features_ND = rng.standard_normal((200, 20 * learners)) + 0.25 * label_N[:, None]
    features = np.split(features_ND, learners, axis=1)
    return {str(i): accuracies(found_ND, label_N, folds) for i, found_ND in enumerate(features)}


@pytest.fixture(scope="module")
def tables() -> list[dict[str, np.ndarray]]:
    """Tables of four equal learners on ten folds."""
    rng = np.random.default_rng(3)
    return [equal_learners(rng, 4, FOLDS) for _ in range(150)]


@pytest.mark.parametrize("used", [10, 4, 2])
def test_equal_learners_are_called_different_in_at_most_one_case_in_twenty(
    tables: list[dict[str, np.ndarray]], used: int
) -> None:
    found = uncorrected = 0
    for table in tables:
        for names in ("01", "23"):
            scores = {name: table[name][:used] for name in names}
            found += compare(scores)[0].p < LEVEL
            uncorrected += compare(scores, ratio=0.0)[0].p < LEVEL
    assert found <= binomial_limit(LEVEL, 2 * len(tables))
    assert uncorrected > found or used == 2


@pytest.mark.parametrize("few", [3, 5])
def test_so_are_they_with_few_folds(few: int) -> None:
    rng, trials = np.random.default_rng(9), 200
    tests = [compare(equal_learners(rng, 2, few), folds.overlap_ratio(few)) for _ in range(trials)]
    assert sum(pair.p < LEVEL for [pair] in tests) <= binomial_limit(LEVEL, trials)


def test_a_table_of_equal_learners_has_a_false_claim_in_at_most_one_case_in_twenty(
    tables: list[dict[str, np.ndarray]],
) -> None:
    tests = [compare(table) for table in tables]
    found = sum(any(pair.corrected < LEVEL for pair in pairs) for pairs in tests)
    uncorrected = sum(any(pair.p < LEVEL for pair in pairs) for pairs in tests)
    assert found <= binomial_limit(LEVEL, len(tables))
    assert found < uncorrected


def test_better_learners_are_found_and_p_values_corrected() -> None:
    rng = np.random.default_rng(4)
    text_F = rng.normal(0, 2, FOLDS)
    scores = {
        name: mean + text_F + rng.normal(0, 0.5, FOLDS)
        for name, mean in (("a", 79.4), ("b", 76.5), ("c", 76.4))
    }
    found = {(p.first, p.second): p for p in compare(scores)}
    assert found["a", "b"].corrected < LEVEL
    assert found["b", "c"].corrected > LEVEL
    assert all(pair.p <= pair.corrected <= 3 * pair.p for pair in found.values())
    assert found["a", "b"].detectable < 2.9


def test_the_detectable_difference_is_found_in_four_of_five_cases() -> None:
    """Independent folds, whose ratio is 0; the deviation between folds is known to be 1."""
    rng, trials = np.random.default_rng(7), 400
    # As of a pair whose estimated variance is the true one.
    change_F = rng.standard_normal(FOLDS)
    change_F = (change_F - change_F.mean()) / change_F.std(ddof=1)
    zero_F = np.zeros(FOLDS)
    [pair] = compare({"a": change_F + 50, "b": zero_F + 50}, ratio=0.0)
    found = sum(
        compare({"a": rng.normal(pair.detectable, 1, FOLDS) + 50, "b": zero_F + 50}, 0.0)[0].p
        < LEVEL
        for _ in range(trials)
    )
    assert found / trials == pytest.approx(0.8, abs=0.06)


def test_pairs_are_tested_on_the_folds_that_both_have() -> None:
    rng, missing = np.random.default_rng(8), math.nan
    a_F, b_F = rng.normal(80, 2, (2, FOLDS))
    some_F = np.array([*b_F[:4], *[missing] * 6])
    other_F = np.array([*[missing] * 9, 80.0])
    tests = compare({"a": a_F, "some": some_F, "other": other_F})
    [alone] = compare({"a": a_F[:4], "some": b_F[:4]})
    assert tests == [alone]
    assert alone.folds == 4


def test_differences_without_variance_support_no_claim() -> None:
    """Two small folds often have the same difference by chance; rounding is no variance."""
    [pair] = compare({"a": np.array([80.3, 75.1]), "b": np.array([79.2, 74.0])})
    assert (pair.p, pair.corrected) == (1.0, 1.0)
    assert (pair.low, pair.high, pair.detectable) == (-math.inf, math.inf, math.inf)
    score = estimate_folds(np.full(3, 100.0), RATIO, CONFIDENCE)
    assert (score.mean, score.low, score.high) == (100.0, -math.inf, math.inf)
