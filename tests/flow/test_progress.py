"""The file with the progress of a flow, and what `seqline status` shows of it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.core import state_dir
from pipeline.dag.project_lock import flow_lock
from pipeline.dag.run_stage import Result
from pipeline.flow import display, journal, progress, status
from pipeline.flow.progress import Progress, RecordedDisplay

FILE = Path(".seqline/flow/progress.json")
KILLED = """
import os, signal, sys
from pathlib import Path
from pipeline.dag.project_lock import flow_lock
from pipeline.flow import display, progress
from pipeline.flow.devices import Slots
from pipeline.flow.time_left import TimeLeft
from pipeline.dag.graph import Plan

plan = Plan({"train@a": ()}, frozenset())
left = TimeLeft(plan, {}, 1, Slots(frozenset(), []))
with flow_lock(Path(), wait=False):
    shown = progress.RecordedDisplay(Path(), display.Plain(1, left), 1)
    shown.stage_started("train@a")
    os.kill(os.getpid(), signal.SIGKILL)
"""


class Silent(display.Plain):
    """A display that shows nothing."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def stage_started(self, address: str) -> None:
        self.calls.append(f"start {address}")

    def stage_ended(self, address: str, result: Result) -> None:
        self.calls.append(f"end {address}")

    def waited(self) -> None:
        self.calls.append("wait")

    def close(self) -> None:
        self.calls.append("close")


def test_progress_follows_the_stages_and_ends_with_the_flow(tmp_path: Path) -> None:
    shown = Silent()
    with flow_lock(tmp_path, wait=False):
        recorded = RecordedDisplay(tmp_path, shown, 3)
        assert progress.read(tmp_path) == Progress(3, 0, [])
        recorded.stage_started("train@a")
        recorded.stage_started("train@b")
        recorded.waited()
        recorded.stage_ended("train@a", Result(state="ran"))
        assert progress.read(tmp_path) == Progress(3, 1, ["train@b"])
        recorded.close()
        assert progress.read(tmp_path) is None
    assert shown.calls == ["start train@a", "start train@b", "wait", "end train@a", "close"]
    assert not (tmp_path / FILE).exists()


@pytest.mark.parametrize(
    ("running", "text"),
    [
        ([], "27 of 186 stages"),
        (["train@lstm-2"], "27 of 186 stages, now train@lstm-2"),
        (list("abcdef"), "27 of 186 stages, now a, b, c, d and 2 more"),
    ],
)
def test_progress_is_one_phrase(running: list[str], text: str) -> None:
    assert str(Progress(186, 27, running)) == text


def test_a_killed_flow_has_no_progress(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED], cwd=tmp_path, check=False)
    assert (tmp_path / FILE).exists()
    assert progress.read(tmp_path) is None
    # Another process that holds the lock has not begun with its stages.
    with flow_lock(tmp_path, wait=False):
        assert progress.read(tmp_path) is None


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"process": 1, "total": 2}'])
def test_a_damaged_file_is_no_progress(content: str, tmp_path: Path) -> None:
    with flow_lock(tmp_path, wait=False):
        (tmp_path / FILE).write_text(content)
        assert progress.read(tmp_path) is None


def test_a_full_disk_does_not_end_the_run(tmp_path: Path) -> None:
    (tmp_path / state_dir.FLOW).mkdir(parents=True)
    (tmp_path / FILE).mkdir()  # no file can take its place
    recorded = RecordedDisplay(tmp_path, Silent(), 1)
    recorded.stage_started("train@a")
    recorded.close()
    with flow_lock(tmp_path, wait=False):
        assert progress.read(tmp_path) is None


def test_status_names_what_runs_and_how_far_it_is(
    project: Path, seqline, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    with flow_lock(project, wait=False), journal.record_flow(project, "run", "manual"):
        recorded = RecordedDisplay(project, Silent(), 186)
        for number in range(27):
            recorded.stage_ended(f"encode@{number}", Result(state="ran"))
        recorded.stage_started("train@lstm-2")
        lines = dict(status.report(project).lines)
        assert lines["running"].startswith("27 of 186 stages, now train@lstm-2; run since ")
        printed = json.loads(seqline(project, "status", "--json").out)
        assert printed["progress"] == {"total": 186, "ended": 27, "running": ["train@lstm-2"]}
        assert ": 27 of 186 stages, now train@lstm-2\n" in seqline(project).out
        recorded.close()
        assert dict(status.report(project).lines)["running"].startswith("run since ")
    assert json.loads(seqline(project, "status", "--json").out)["progress"] is None
