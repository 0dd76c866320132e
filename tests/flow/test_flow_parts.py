"""The parts of `seqline run`: places and threads, locks, orphans, the order of stages, and the lock
file, spliced."""

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import flows
import pytest
from dvc.utils.serialize import load_yaml, loads_yaml, modify_yaml

from pipeline.core import params
from pipeline.core.errors import UserError
from pipeline.dag import expected_time, graph, lockfile, process_groups, project_lock
from pipeline.flow import devices


@pytest.mark.parametrize(
    ("visible", "device", "processes", "places"),
    [
        ("2,5", "cuda", 1, ["2", "5"]),
        ("0,1,2,3", "cuda", 2, ["0,1", "2,3"]),
        ("0,1,2", "cuda", 2, ["0,1"]),
        ("0", "cuda", 2, ["0"]),
        ("", "cuda", 1, [None, None, None]),
        ("0,1", "cpu", 1, [None, None, None]),
        ("0,1", "cuda:1", 1, [None]),
        ("3,-1,4", "cuda", 1, ["3"]),
    ],
)
def test_slots_follow_visible_gpus(
    visible: str,
    device: str,
    processes: int,
    places: list[str | None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    offered = devices.slots(
        params.Compute(device=device, slots=3, processes=processes, workers=1, cluster=None)
    )
    taken = [offered.acquire("train") for _ in places]
    assert [place and place.name for place in taken] == places
    assert offered.acquire("train") is None
    assert offered.acquire("evaluate") is not None, "it needs none"
    assert taken[0] is not None
    taken[0].release()
    assert offered.acquire("train") is not None


def test_threads_are_shared_unless_the_user_sets_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAYON_NUM_THREADS", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setattr(devices, "cores", lambda: 8)
    shared = devices.threads(3)
    assert shared["RAYON_NUM_THREADS"] == "2"
    assert "OMP_NUM_THREADS" not in shared
    assert devices.threads(100)["RAYON_NUM_THREADS"] == "1"


def test_one_flow_at_a_time(tmp_path: Path) -> None:
    with (  # noqa: SIM117
        project_lock.flow_lock(tmp_path, wait=False),
        pytest.raises(UserError, match=rf"process {os.getpid()}\)"),
    ):
        with project_lock.flow_lock(tmp_path, wait=False):
            pytest.fail("two at once")
    with project_lock.flow_lock(tmp_path, wait=False):
        pass


def test_reused_process_number_is_not_signalled(tmp_path: Path) -> None:
    process_groups.folder(tmp_path).mkdir(parents=True)
    sleepers = {
        mark: subprocess.Popen(
            ["sleep", "600"], env={process_groups.MARK: mark}, start_new_session=True
        )
        for mark in ("own", "new")
    }
    try:
        for process in sleepers.values():
            (process_groups.folder(tmp_path) / str(process.pid)).write_text('{"mark": "own"}')
        (process_groups.folder(tmp_path) / ".123.4.partial").write_text("")
        assert process_groups.end_orphans(tmp_path) == [sleepers["own"].pid]
        assert sleepers["own"].wait(600) == -signal.SIGKILL
        assert sleepers["new"].poll() is None
        assert list(process_groups.folder(tmp_path).iterdir()) == []
    finally:
        for process in sleepers.values():
            process.kill()
            process.wait()


def test_critical_path_first() -> None:
    needs = {"a": (), "b": (), "c": ("a",), "d": ("b",), "end": ("c", "d")}
    plan = graph.Plan(needs, frozenset())
    left = expected_time.priorities(plan, {"a": 1.0, "b": 2.0, "c": 10.0, "d": 3.0, "end": 1.0})
    assert left == {"end": 1.0, "d": 4.0, "c": 11.0, "b": 6.0, "a": 12.0}
    assert plan.below("a") == {"c", "end"}
    assert (
        expected_time.priorities(graph.Plan(needs, frozenset({"a", "c"})), {"end": 1.0})["a"] == 1.0
    )


def test_new_stages_come_in_the_plan_s_order_behind_those_that_were_there() -> None:
    assert graph.sorted_lock(["x", "old", "c", "a", "b"], ["old", "x"], ["a", "b", "c"]) == [
        "x",
        "old",
        "a",
        "b",
        "c",
    ]


@pytest.mark.long
def test_a_stage_put_into_the_lock_is_written_as_dvc_writes_it(tmp_path: Path) -> None:
    whole = (flows.ROOT / "dvc.lock").read_text(encoding="utf-8")
    stages, found = load_yaml(str(flows.ROOT / "dvc.lock"))["stages"], lockfile.split_stages(whole)
    assert found is not None
    assert list(found) == list(stages)
    for name, content in list(stages.items())[::9]:
        spliced = lockfile.splice_stages(whole, {name: content})
        assert spliced is not None, (name, content)
        assert (lockfile.split_stages(spliced) or {})[name] == found[name]
        assert spliced == whole
    # DVC takes seconds for the whole
    text = lockfile.join_stages({name: found[name] for name in list(found)[::6]})
    odd: dict[str, Any] = {
        "cmd": "a b " * 60 + "é \u00a0 # no comment: 'quoted'\n two lines",
        "params": {
            "params.yaml": {
                "runs.x": {
                    "1": [0.001, 1e-8, True, None, "", "yes", "0x1"],
                    "deep": [[1], {"a": []}],
                }
            }
        },
    }
    for name in (list(found)[18], "new@one", "folder/dvc.yaml:x", "needs: quotes"):
        (tmp_path / "dvc.lock").write_text(text, encoding="utf-8")
        with modify_yaml(str(tmp_path / "dvc.lock")) as content:
            content["stages"].update({name: odd})
        spliced = lockfile.splice_stages(text, {name: odd})
        assert spliced is None or spliced == (tmp_path / "dvc.lock").read_text(encoding="utf-8")
        assert spliced is not None or ":" in name
    assert lockfile.split_stages("# edited by hand\n" + text) is None
    assert loads_yaml(lockfile.splice_stages("", {"a": odd}) or "")["stages"]["a"] == odd
