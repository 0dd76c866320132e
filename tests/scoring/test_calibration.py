"""Error rates of the tests, by small simulations with fixed random numbers; the full ones are
`python -m benchmarks.calibration`."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from benchmarks import setting_tests
from benchmarks.calibration import LEVEL, measure_trainings, p_values, rows_error_rates
from benchmarks.gate import binomial_limit
from benchmarks.simulated_settings import (
    FIVE_EACH,
    FRA_ENG,
    SeedEffects,
    Simulation,
    block_numbers,
    classifiers,
    translators,
)
from pipeline.core import tables

ROOT = Path(__file__).parents[2]

PAIRS = 300
ALLOWED = binomial_limit(LEVEL, PAIRS)
FEW_SOURCES = {1: 30, 2: 15, 3: 3, 6: 1}


def accuracy(first: SeedEffects, second: SeedEffects) -> Simulation:
    return classifiers("accuracy", first, second, rows=400)


EQUAL = {
    "large deviations": accuracy(SeedEffects(5.2), SeedEffects(5.2)),
    "small deviations": accuracy(SeedEffects(1.4), SeedEffects(1.4)),
    "unequal deviations": accuracy(SeedEffects(5.2), SeedEffects(1.4)),
    "no effect of the seed": accuracy(SeedEffects(0.0), SeedEffects(0.0)),
    "some seeds fail": accuracy(*[SeedEffects(1.4, failing=0.1, failed=50.0)] * 2),
    "BLEU of several translations": translators(
        "BLEU", SeedEffects(0.0), SeedEffects(0.0), FEW_SOURCES
    ),
}


@pytest.mark.parametrize("name", EQUAL)
def test_equal_settings_are_called_different_in_at_most_one_case_in_twenty(name: str) -> None:
    p = p_values(EQUAL[name], setting_tests.chosen, PAIRS)
    assert (p < LEVEL).sum() <= ALLOWED


@pytest.mark.parametrize("deviation", [0.1, 1.4, 5.2])
def test_a_baseline_and_an_equal_setting_are_called_different_in_at_most_one_case_in_twenty(
    deviation: float,
) -> None:
    simulation = accuracy(SeedEffects(0.0), SeedEffects(deviation))
    p = p_values(simulation, setting_tests.chosen, PAIRS, first_is_baseline=True)
    assert (p < LEVEL).sum() <= ALLOWED


@pytest.mark.parametrize(
    "test",
    [
        setting_tests.one_training_each,
        setting_tests.all_trainings,
        setting_tests.stratified_randomization,
    ],
)
def test_tests_that_take_the_seeds_as_given_call_most_equal_settings_different(test) -> None:
    p = p_values(EQUAL["large deviations"], test, 20)
    assert (p < LEVEL).sum() > binomial_limit(LEVEL, 20)


def test_a_test_of_seeds_alone_ignores_the_test_set() -> None:
    p = p_values(EQUAL["no effect of the seed"], setting_tests.welch_over_seeds, 4 * PAIRS)
    assert (p < LEVEL).sum() > binomial_limit(LEVEL, 4 * PAIRS)


@pytest.mark.parametrize("seeds", [2, 5])
def test_other_numbers_of_seeds_keep_the_level(seeds: int) -> None:
    p = p_values(EQUAL["small deviations"], setting_tests.chosen, PAIRS, seeds)
    assert (p < LEVEL).sum() <= ALLOWED


def test_large_differences_are_found() -> None:
    p = p_values(EQUAL["small deviations"], setting_tests.chosen, 40, gain=9.0)
    assert (p < LEVEL).mean() > 0.9


@pytest.mark.parametrize("sizes", [FRA_ENG, FIVE_EACH], ids=["fra_eng", "five per source"])
def test_gate_and_report_hold_their_level_on_rows_that_share_sources(
    sizes: dict[int, int],
) -> None:
    trials = 150
    by_source = rows_error_rates(sizes, "means", trials, by_row=False)
    by_row = rows_error_rates(sizes, "means", trials, by_row=True)
    allowed = binomial_limit(LEVEL, trials)
    assert max(by_source.values()) * trials <= allowed
    assert by_row["report"] * trials > allowed
    if sizes is FIVE_EACH:
        assert min(by_row.values()) * trials > allowed


def test_blocks_of_fra_eng_are_those_of_its_test_split() -> None:
    sizes = np.bincount(block_numbers(FRA_ENG))
    assert (sizes.sum(), len(sizes)) == (951, 592)
    assert sizes.sum() ** 2 / (sizes**2).sum() == pytest.approx(416, abs=1)


def test_real_trainings_of_one_setting_are_compared_with_each_other(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    label_N = rng.integers(0, 2, 50)
    for seed in range(1, 8):
        wrong_N = rng.random(50) < 0.2
        predicted_N = np.where(wrong_N, 1 - label_N, label_N)
        columns = [range(50), range(50), [3] * 50, label_N.astype(str), predicted_N.astype(str)]
        table = pa.table([*columns, *[np.ones(50)] * 2], schema=tables.SCORES_LABELLED)
        (tmp_path / f"mlp-{seed}").mkdir()
        tables.write(tmp_path / f"mlp-{seed}/test.parquet", table)
    first, *shares = measure_trainings(ROOT / "params.yaml", tmp_path, "mlp", 3, comparisons=20)
    assert "7 trainings" in first
    assert "chosen" in shares[0]
    assert "of 20 called different" in shares[0]
