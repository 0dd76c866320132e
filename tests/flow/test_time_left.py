"""The estimate of the time that a run still takes."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dag.graph import Plan
from pipeline.flow.devices import Slots
from pipeline.flow.time_left import TimeLeft, in_words

NO_PLACES = Slots(frozenset(), [])


@st.composite
def plans(draw: st.DrawFn) -> tuple[Plan, dict[str, float]]:
    """A DAG of up to 12 stages of three kinds, some fresh, with the duration of each."""
    kinds = draw(st.lists(st.sampled_from(["train", "predict", "encode"]), min_size=1, max_size=12))
    names = [f"{kind}@{number}" for number, kind in enumerate(kinds)]
    needs = {}
    fresh = set()
    for number, name in enumerate(names):
        above = names[:number]
        needs[name] = tuple(draw(st.lists(st.sampled_from(above), unique=True)) if above else [])
        if fresh.issuperset(needs[name]) and draw(st.booleans()):
            fresh.add(name)
    seconds = st.integers(1, 60).map(float)
    return Plan(needs, frozenset(fresh)), {name: draw(seconds) for name in names}


def critical_path(plan: Plan, seconds: dict[str, float]) -> float:
    ends: dict[str, float] = {}
    for name, needs in plan.needs.items():
        duration = 0.0 if name in plan.fresh else seconds[name]
        ends[name] = max((ends[need] for need in needs), default=0.0) + duration
    return max(ends.values())


def estimate(plan: Plan, seconds: dict[str, float], jobs: int, slots: Slots = NO_PLACES) -> float:
    left = TimeLeft(plan, seconds, jobs, slots).seconds()
    assert left is not None
    return left


@given(plans(), st.integers(1, 4))
def test_the_estimate_is_the_sum_for_one_job_and_the_longest_path_for_many(drawn, jobs) -> None:
    plan, seconds = drawn
    total = sum(seconds[name] for name in plan.stale())
    longest = critical_path(plan, seconds)
    assert estimate(plan, seconds, 1) == pytest.approx(total)
    assert estimate(plan, seconds, len(seconds)) == pytest.approx(longest)
    between = estimate(plan, seconds, jobs)
    # Graham's bounds of list scheduling
    assert max(longest, total / jobs) - 1e-6 <= between <= total / jobs + longest + 1e-6


@given(plans())
def test_trainings_that_share_one_place_run_one_after_another(drawn) -> None:
    plan, seconds = drawn
    slots = Slots(frozenset({"train"}), [None])
    trainings = sum(seconds[name] for name in plan.stale() if name.startswith("train"))
    assert estimate(plan, seconds, len(seconds), slots) >= trainings


@given(plans())
def test_the_estimate_counts_down_to_zero_when_stages_take_what_they_took(drawn) -> None:
    """Run the plan stage by stage, on a simulated clock."""
    plan, seconds = drawn
    clock = [0.0]
    left = TimeLeft(plan, seconds, 1, NO_PLACES, clock=lambda: clock[0])
    for name in plan.stale():
        before = left.seconds()
        left.started(name)
        clock[0] += seconds[name]
        left.ended(name, seconds[name], ok=True)
        after = left.seconds()
        assert before is not None
        assert after is not None
        assert before - after == pytest.approx(seconds[name])
    assert left.seconds() == 0.0


def test_a_running_stage_counts_with_its_rest_and_a_late_one_hardly() -> None:
    clock = [0.0]
    plan = Plan({"train@a": (), "report": ("train@a",)}, frozenset())
    durations = {"train@a": 60.0, "report": 10.0}
    left = TimeLeft(plan, durations, 2, NO_PLACES, clock=lambda: clock[0])
    left.started("train@a")
    clock[0] = 45.0
    assert left.seconds() == 25.0
    clock[0] = 600.0
    assert 10.0 < (left.seconds() or 0) <= 12.0


def test_stages_below_a_failed_one_are_not_waited_for() -> None:
    plan = Plan({"train@a": (), "predict@a": ("train@a",), "train@b": ()}, frozenset())
    left = TimeLeft(plan, dict.fromkeys(plan.needs, 50.0), 1, NO_PLACES)
    left.ended("train@a", 1.0, ok=False)
    assert left.seconds() == 50.0


def test_nothing_is_said_before_a_stage_of_each_kind_has_run() -> None:
    plan = Plan({"train@a": (), "train@b": (), "train@c": (), "report": ()}, frozenset())
    left = TimeLeft(plan, {}, 1, NO_PLACES)
    assert left.seconds() is None
    left.ended("train@a", 7.0, ok=True)
    seconds = left.seconds()
    assert seconds is not None, "two trainings as long as the first; one report by default"
    assert seconds > 14.0


def test_after_the_first_training_predictions_are_a_share_of_trainings() -> None:
    """All trainings precede the first prediction: else a first run had no estimate until then."""
    needs: dict[str, tuple[str, ...]] = {f"train@{name}": () for name in "abcd"}
    needs |= {f"predict@{name}": (f"train@{name}",) for name in "abcd"}
    left = TimeLeft(Plan(needs, frozenset()), {}, 1, NO_PLACES)
    left.ended("train@a", 100.0, ok=True)
    seconds = left.seconds()
    assert seconds is not None
    assert 300.0 < seconds < 400.0
    left.ended("predict@a", 1.0, ok=True)
    assert left.seconds() == 303.0, "now a prediction has been seen"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-3.0, "5 s"),
        (0.0, "5 s"),
        (42.0, "40 s"),
        (54.0, "55 s"),
        (59.0, "1 min"),
        (89.0, "1 min"),
        (200.0, "3 min"),
        (3570.0, "1 h 0 min"),
        (7805.0, "2 h 10 min"),
    ],
)
def test_durations_are_rounded_as_estimates(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


def test_longer_durations_never_become_shorter_in_words() -> None:
    minutes = {"s": 1 / 60, "min": 1, "h": 60}

    def value(words: str) -> float:
        parts = words.split()
        return sum(
            int(number) * minutes[unit]
            for number, unit in zip(parts[::2], parts[1::2], strict=True)
        )

    values = [value(in_words(seconds)) for seconds in range(0, 10_000, 7)]
    assert all(first <= second for first, second in itertools.pairwise(values))
