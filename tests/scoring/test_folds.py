"""Tests between cross-validated settings, with SciPy and simulated learners as oracles."""

import numpy as np
import pytest
from scipy import stats

from benchmarks.gate import binomial_limit
from pipeline.core.errors import UserError
from pipeline.scoring import folds
from pipeline.scoring.folds import compare_folds, estimate_folds

CONFIDENCE, LEVEL, FOLDS = 0.95, 0.05, 10
RATIO = folds.overlap_ratio(FOLDS)


def test_without_overlap_it_is_the_paired_t_test() -> None:
    first, second = np.random.default_rng(1).normal([[80.0], [79.0]], 2, (2, FOLDS))
    [found] = compare_folds({"a": first, "b": second}, 0.0, CONFIDENCE, LEVEL)
    expected = stats.ttest_rel(first, second)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-4)
    interval = tuple(expected.confidence_interval(CONFIDENCE))
    assert (found.low, found.high) == pytest.approx(interval, rel=1e-5)
    score = estimate_folds(first, 0.0, CONFIDENCE)
    interval = tuple(stats.ttest_1samp(first, 0).confidence_interval(CONFIDENCE))
    assert (score.low, score.high) == pytest.approx(interval, rel=1e-5)


def test_overlap_widens_intervals_by_the_factor_of_nadeau_and_bengio() -> None:
    scores_F = np.random.default_rng(2).normal(80, 2, FOLDS)
    plain, corrected = (estimate_folds(scores_F, ratio, CONFIDENCE) for ratio in (0.0, RATIO))
    factor = (1 / 10 + 1 / 8) / (1 / 10)
    assert (corrected.high - corrected.low) ** 2 == pytest.approx(
        factor * (plain.high - plain.low) ** 2
    )


def accuracies(features_ND: np.ndarray, label_N: np.ndarray) -> np.ndarray:
    """scores_F of least squares on the fold's training rows; the fold after it is left out too."""
    fold_N = np.arange(len(label_N)) % FOLDS
    scores = []
    for fold in range(FOLDS):
        train_N = (fold_N != fold) & (fold_N != (fold + 1) % FOLDS)
        weights_D, *_ = np.linalg.lstsq(features_ND[train_N], label_N[train_N], rcond=None)
        test_N = fold_N == fold
        scores.append(100 * np.mean(np.sign(features_ND[test_N] @ weights_D) == label_N[test_N]))
    return np.array(scores)


def test_equal_learners_are_called_different_in_at_most_one_case_in_twenty() -> None:
    """Two learners that see different features of the same rows, each as telling as the other."""
    rng, trials, found, uncorrected = np.random.default_rng(3), 300, 0, 0
    for _ in range(trials):
        label_N = rng.choice([-1.0, 1.0], 200)
        features_ND = rng.standard_normal((200, 40)) + 0.25 * label_N[:, None]
        scores = {"a": accuracies(features_ND[:, :20], label_N)}
        scores["b"] = accuracies(features_ND[:, 20:], label_N)
        found += compare_folds(scores, RATIO, CONFIDENCE, LEVEL)[0].p < LEVEL
        uncorrected += compare_folds(scores, 0.0, CONFIDENCE, LEVEL)[0].p < LEVEL
    assert found <= binomial_limit(LEVEL, trials)
    assert uncorrected > max(found, LEVEL * trials)


def test_better_learners_are_found_and_p_values_corrected() -> None:
    rng = np.random.default_rng(4)
    text_F = rng.normal(0, 2, FOLDS)
    scores = {
        name: mean + text_F + rng.normal(0, 0.5, FOLDS)
        for name, mean in (("a", 79.4), ("b", 76.5), ("c", 76.4))
    }
    found = {(p.first, p.second): p for p in compare_folds(scores, RATIO, CONFIDENCE, LEVEL)}
    assert found["a", "b"].corrected < LEVEL
    assert found["b", "c"].corrected > LEVEL
    assert all(pair.p <= pair.corrected <= 3 * pair.p for pair in found.values())
    assert found["a", "b"].detectable < 2.9


def test_a_single_fold_supports_no_claim() -> None:
    with pytest.raises(UserError, match=r"runs\.a: got 1 fold; expected at least 2 folds"):
        compare_folds({"a": np.ones(1), "b": np.ones(1)}, RATIO, CONFIDENCE, LEVEL)
