"""The level of a challenge: what a test set spends over its life, what counts as a new test set,
and a year of equal challengers."""

from dataclasses import replace
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pyarrow as pa
import pytest
import synthetic_runs
from hypothesis import given
from hypothesis import strategies as st
from long_cases import mostly_long

from benchmarks import gate_systems, gate_years
from benchmarks.gate import binomial_limit
from pipeline.core import tables
from pipeline.promotion import retokenize
from pipeline.promotion.alpha_spending import (
    Challenge,
    TestSet,
    Uncounted,
    allocate,
    probability,
    shares_left,
    spent,
)
from pipeline.promotion.one_sided_significance import p_value
from pipeline.promotion.settings import Settings, load

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = load(ROOT / "flow.yaml")
LEVEL = SETTINGS.level
MAX_TAG = 5000  # characters of a registered model's tag in MLflow's database


def rows(start: int, stop: int) -> "np.ndarray":
    """Digests of the numbered rows."""
    return np.random.default_rng(7).integers(0, 2**64, 60_000, np.uint64)[start:stop]


def made(start: int, stop: int) -> TestSet:
    return TestSet.of(f"{start}-{stop}", rows(start, stop))


def challenged(settings: Settings, *test_sets: TestSet, times: int = 1) -> list[Challenge]:
    """`times` challenges, one after the other, on these test sets, while they have a level."""
    known = {test_set.digest: test_set for test_set in test_sets}
    challenges: list[Challenge] = []
    for _ in range(times):
        allocation = allocate(settings, challenges, known, test_sets)
        if not allocation.is_spent:
            challenges.append(
                Challenge(
                    level=allocation.level,
                    number=allocation.number or 0,
                    test_sets=allocation.test_sets,
                    at="",
                )
            )
    return challenges


# The level


def test_a_test_set_serves_its_challenges_and_no_more() -> None:
    settings = replace(SETTINGS, challenges=7)
    made_ones = challenged(settings, made(0, 900), times=9)
    assert [one.number for one in made_ones] == list(range(1, 8))
    assert sum(one.level for one in made_ones) == pytest.approx(LEVEL)
    allocation = allocate(settings, made_ones, {}, [made(0, 900)])
    assert allocation.is_spent
    assert allocation.reason.startswith("the level 0.05 of its test set is spent, by 7 challenges")
    assert "use a new test set, or promote it manually with `seqline promote`" in allocation.reason


def test_the_record_says_the_level_and_why() -> None:
    [first] = challenged(SETTINGS, made(0, 900))
    known = {"0-900": made(0, 900)}
    assert allocate(SETTINGS, [first], known, [made(0, 900)]).reason == (
        "tested at level 0.000137 = 0.05 / 365, as challenge 2 of 365 of its test set"
    )
    free = Uncounted(SETTINGS).reserve([made(0, 900)])
    assert free.reason == (
        "tested at level 0.000137 = 0.05 / 365, as each of 365 challenges of a test set"
    )


def test_fewer_challenges_share_what_is_left() -> None:
    """The settings change in the middle of a year: what is spent stays spent."""
    early = challenged(SETTINGS, made(0, 900), times=73)
    spent_level = sum(one.level for one in early)
    assert spent_level == pytest.approx(LEVEL / 5)
    assert shares_left(SETTINGS, spent_level) == 365 - 73
    assert shares_left(replace(SETTINGS, challenges=10), spent_level) == 8
    assert shares_left(replace(SETTINGS, level=0.01), spent_level) == 0


@given(
    st.lists(
        st.tuples(
            st.lists(st.sampled_from([(0, 500), (0, 900), (900, 1500), (3000, 3400)]), min_size=1),
            st.integers(1, 9),
        ),
        max_size=40,
    )
)
def test_no_history_spends_more_than_the_level(history: list) -> None:
    """Neither on rows of a test set over its life, nor in as many challenges in a row."""
    settings = replace(SETTINGS, challenges=5)
    challenges: list[Challenge] = []
    known: dict[str, TestSet] = {}
    for chosen, _ in history:
        test_sets = [made(*rows) for rows in dict.fromkeys(chosen)]
        known |= {test_set.digest: test_set for test_set in test_sets}
        allocation = allocate(settings, challenges, known, test_sets)
        if not allocation.is_spent:
            challenges.append(
                Challenge(level=allocation.level, number=1, test_sets=allocation.test_sets, at="")
            )

    limit = LEVEL * (1 + 1e-6)
    for start in range(len(challenges)):
        assert sum(one.level for one in challenges[start : start + 5]) <= limit
    for test_set in known.values():
        on_it = [one for one in challenges if test_set.digest in one.test_sets]
        assert sum(one.level for one in on_it) <= limit


# Test sets


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ((0, 1000), (0, 1000), True),
        ((0, 1000), (0, 1100), True),  # it grew
        ((0, 1000), (0, 30_000), True),
        ((0, 1000), (800, 1800), True),  # a fifth of the rows
        ((0, 1000), (1000, 2000), False),
        ((0, 100), (100, 9000), False),
        ((0, 2), (2, 50_000), True),  # too few rows to tell
        ((0, 1000), (990, 20_000), False),
    ],
)
def test_a_test_set_is_new_if_it_shares_hardly_a_row(
    first: tuple[int, int], second: tuple[int, int], same: bool
) -> None:
    one, other = made(*first), made(*second)
    assert one.overlaps(other) == other.overlaps(one) == same


def test_a_new_test_set_has_its_whole_level_and_a_spent_one_only_guards() -> None:
    settings = replace(SETTINGS, challenges=3)
    old, new = made(0, 900), made(2000, 2900)
    challenges = challenged(settings, old, times=3)
    allocation = allocate(settings, challenges, {old.digest: old}, [old, new])
    assert allocation.test_sets == (new.digest,)
    assert allocation.number == 1


def test_a_test_set_that_grows_every_night_stays_one() -> None:
    settings = replace(SETTINGS, challenges=30)
    challenges: list[Challenge] = []
    known: dict[str, TestSet] = {}
    for night in range(40):
        grown = made(0, 500 + 20 * night)
        known[grown.digest] = grown
        allocation = allocate(settings, challenges, known, [grown])
        if allocation.is_spent:
            break
        challenges.append(
            Challenge(level=allocation.level, number=1, test_sets=(grown.digest,), at=f"{night:03}")
        )
    assert len(challenges) == 30


def test_a_test_set_without_a_sketch_counts_as_every_test_set() -> None:
    challenges = challenged(SETTINGS, made(0, 900))
    assert spent(made(5000, 5900), challenges, {}) == challenges
    assert spent(made(5000, 5900), challenges, {"0-900": made(0, 900)}) == []


def test_a_sketch_fits_into_a_tag_and_comes_back() -> None:
    for test_set in (made(0, 3), made(0, 50_000), TestSet("none", ())):
        text = test_set.encode()
        assert len(text) < MAX_TAG / 5
        assert TestSet.decode(test_set.digest, text) == test_set
    with pytest.raises(ValueError, match=r"base64|Only|Incorrect|Invalid"):
        TestSet.decode("x", "not a sketch!")


def test_the_rows_of_a_test_set_are_those_that_decide(tmp_path: Path) -> None:
    """A pair is its source, and a benchmark of word vectors its words."""
    synthetic_runs.references(tmp_path / "a", {"test": [["le", "chat"], ["le", "chien"]]})
    keys = retokenize.test_set_rows(tmp_path / "a", True)
    assert len(keys) == 2
    synthetic_runs.references(tmp_path / "b", {"test": [["le", "chien"]]})
    assert set(retokenize.test_set_rows(tmp_path / "b", True)) < set(keys)

    (tmp_path / "a/benchmarks").mkdir()
    for number, schema in ((10, tables.BENCHMARK_CLASSES), (2, tables.BENCHMARK_SIMILARITY)):
        texts = {field.name: ["cat", "dog"] for field in schema if field.type == pa.string()}
        columns = texts | ({"score": [0.5, 1.0]} if "score" in schema.names else {})
        tables.write(
            tmp_path / f"a/benchmarks/{number}_x.parquet", pa.table(columns, schema=schema)
        )
    assert len(retokenize.test_set_rows(tmp_path / "a", False)) == 2
    assert set(retokenize.test_set_rows(tmp_path / "a", False)).isdisjoint(keys)
    assert len(retokenize.test_set_rows(tmp_path / "b", False)) == 0


def test_probabilities_are_written_without_exponents() -> None:
    texts = [probability(value) for value in (0.05, 0.05 / 365, 1e-5, 0.123456, 1.0, None)]
    assert texts == ["0.05", "0.000137", "0.00001", "0.123", "1", "–"]


# A year of challenges


@pytest.mark.parametrize("kind", mostly_long(gate_systems.KINDS, "accuracy".__eq__))
def test_few_years_of_equal_challengers_contain_a_false_promotion(kind: str) -> None:
    """By the gate's own p-values. Without spending, far more years contain one."""
    years = 40
    assert gate_years.false_years(kind, years) <= binomial_limit(LEVEL, years)
    without_spending = gate_years.equal_z(kind, years).max(1) > NormalDist().inv_cdf(1 - LEVEL)
    assert without_spending.sum() > binomial_limit(LEVEL, years)


def test_progress_in_between_makes_no_false_promotions() -> None:
    """A new champion was chosen for its luck too, which makes it harder to beat."""
    false, promotions = gate_years.false_years_with_progress(40)
    assert false <= binomial_limit(LEVEL, 40)
    assert promotions > 3.5


def test_the_normal_approximation_is_the_randomisation_test() -> None:
    for seed in range(20):
        systems = gate_systems.draw([seed, 8], "BLEU", [0.0, 0.05])
        z = gate_systems.z_scores(systems.differences(0, slice(1, None)))[0]
        p = p_value(
            "approximate_randomisation",
            systems.units(0),
            systems.units(1),
            systems.pool.score,
            True,
            4000,
            seed,
        )
        assert p == pytest.approx(NormalDist().cdf(-z), abs=0.03)


def test_a_clear_gain_is_promoted_within_three_nights_whenever_it_comes() -> None:
    """Levels that decrease promote it in the first nights of the year only."""
    shares = [0.0, *[gate_systems.KINDS["BLEU"]().share_for(2.5)] * gate_years.WINDOW]
    z = np.stack(
        [
            gate_systems.z_scores(
                gate_systems.draw([pair, 4], "BLEU", shares).differences(0, slice(1, None))
            )
            for pair in range(100)
        ]
    )
    equal = (z > gate_years.CRITICAL).any(1).mean()
    assert 0.8 < equal < 1
    decreasing = gate_years.critical(gate_years.decreasing_levels(1.5))
    assert (z > decreasing[:3]).any(1).mean() >= equal
    assert (z > decreasing[180:183]).any(1).mean() < equal


@pytest.mark.parametrize("gain", [-0.1, 0.0])
def test_a_bet_against_no_gain_seldom_wins(gain: float) -> None:
    """Ville's inequality at 0.05 for the e-values of the curve."""
    rng = np.random.default_rng(3)
    wins = sum(
        gate_years.e_value(rng.choice([-1.0, 0.0, 1.0], 200) + gain) >= 1 / LEVEL
        for _ in range(1000)
    )
    assert wins <= LEVEL * 1000
