"""The progress of a run, in a pipe and on a terminal."""

import io
import re

import pytest
from rich.console import Console

from pipeline.dag.graph import Plan
from pipeline.dag.run_stage import Result
from pipeline.flow import display
from pipeline.flow.devices import Slots
from pipeline.flow.time_left import TimeLeft

PLAN = Plan({"train@a": (), "train@b": (), "train@c": ()}, frozenset())


def time_left(durations: dict[str, float]) -> TimeLeft:
    return TimeLeft(PLAN, durations, 1, Slots(frozenset(), []))


def test_lines_in_a_pipe_have_count_and_time_left(capsys) -> None:
    shown = display.Plain(3, time_left(dict.fromkeys(PLAN.needs, 100.0)))
    for address in PLAN.needs:
        shown.stage_started(address)
        shown.stage_ended(address, Result(state="ran", seconds=2.5))
    assert capsys.readouterr().out.splitlines() == [
        "3 stages to run: about 5 min",
        "[1/3] train@a: done in 2.5 s; about 3 min left",
        "[2/3] train@b: done in 2.5 s; about 2 min left",
        "[3/3] train@c: done in 2.5 s",
    ]


def test_no_time_is_given_before_one_is_known(capsys) -> None:
    shown = display.Plain(3, time_left({}))
    shown.stage_started("train@a")
    shown.stage_ended("train@a", Result(state="ran", seconds=20.0))
    assert capsys.readouterr().out.splitlines() == [
        "3 stages to run",
        "[1/3] train@a: done in 20.0 s; about 40 s left",
    ]


def test_nothing_is_printed_when_all_is_up_to_date(capsys) -> None:
    display.Plain(0, time_left({})).close()
    assert capsys.readouterr().out == ""


def test_a_silent_minute_ends_with_a_line_of_what_runs(
    capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(display.time, "monotonic", lambda: now[0])
    durations = dict.fromkeys(PLAN.needs, 100.0)
    left = TimeLeft(PLAN, durations, 1, Slots(frozenset(), []), clock=lambda: now[0])
    shown = display.Plain(3, left)
    shown.stage_started("train@a")
    shown.waited()
    now[0] += 61
    shown.waited()
    shown.waited()
    assert capsys.readouterr().out.splitlines()[1:] == [
        "[0/3] running: train@a (61 s); about 4 min left"
    ]


def test_a_terminal_has_a_bar_for_all_stages_and_lines_for_failed_ones(
    capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = display.Terminal(3, time_left(dict.fromkeys(PLAN.needs, 100.0)))
    try:
        shown.stage_started("train@a")
        shown.stage_ended("train@a", Result(state="ran", seconds=90.0))
        shown.stage_started("train@b")
        shown.stage_ended("train@b", Result(state="failed", seconds=1.0, why="no luck"))
        shown.stage_started("train@c")
        table = io.StringIO()
        Console(file=table, width=100).print(shown._table())
    finally:
        shown.close()
    running, whole = table.getvalue().rstrip().splitlines()
    assert re.fullmatch(r"train@c +\d+ s *", running)
    assert re.search(r"2 of 3 +1 done, 1 FAILED +about 2 min left", whole)
    out = capsys.readouterr().out
    assert "train@b: FAILED in 1.0 s: no luck" in out
    assert "train@a: done" not in out
