"""Two workers of a Prefect work pool, each run in a clone of its own: one after the other, and what one made the next one takes."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flows
import psutil
import pytest
import retrain_project as small
import yaml

from benchmarks import made_dag

POOL = "seqline"
AWAITING = "AwaitingConcurrencySlot"
# The stage `train` has begun when GATE.begun is there, and goes on when GATE is.
_STAGES = """stages:
  prepare:
    cmd: python work.py data/tokens 0 0
    deps: [work.py]
    outs: [data/tokens]
  train:
    cmd: python held.py {gate} && python work.py data/model 0 0 data/tokens
    deps: [work.py, data/tokens]
    outs: [data/model]
"""
_HELD = """import pathlib, sys, time
gate = pathlib.Path(sys.argv[1])
gate.with_suffix(".begun").write_text(str(pathlib.Path.cwd()))
while not gate.exists():
    time.sleep(0.05)
"""
_TELL = 'git push -q origin HEAD:main && echo "$SEQLINE_EVENT $PWD" >> {told}'


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    return tmp_path / "gate"


@pytest.fixture
def told(tmp_path: Path) -> Path:
    """A file in which every retraining of the project says what came of it, and where."""
    return tmp_path / "told"


@pytest.fixture
def origin(gate: Path, told: Path, tmp_path: Path) -> Path:
    """A repository with two stages and a remote of DVC's that holds nothing yet; every retraining publishes what it made."""
    root = made_dag.make(tmp_path / "project", 0, 0)
    (root / "dvc.yaml").write_text(_STAGES.format(gate=gate))
    (root / "held.py").write_text(_HELD)
    (root / "params.yaml").write_text((root / "params.yaml").read_text() + "corpora: {}\nruns: {}\n")
    (root / "flow.yaml").write_text((flows.ROOT / "flow.yaml").read_text())
    tell = {"command": ["sh", "-c", _TELL.format(told=told)], "events": ["kept", "failed", "nothing"]}
    small.settings(root, publish={"push": True, "commit": True}, notify=tell)
    (root / "prefect.yaml").write_text(cloning((flows.ROOT / "prefect.yaml").read_text(), tmp_path / "origin.git"))
    subprocess.run(["dvc", "remote", "add", "-q", "-d", "store", str(tmp_path / "store")], cwd=root, check=True)
    for words in (["add", "."], ["commit", "-q", "-m", "two stages"], ["branch", "-M", "main"]):
        small.git(root, *words)
    small.git(root, "clone", "-q", "--bare", str(root), str(tmp_path / "origin.git"))
    return root


def cloning(text: str, repository: Path) -> str:
    """The project's prefect.yaml with its `pull` section, of which the comment marks are taken away, for this repository."""
    head, mark, pull = text.partition("    # pull:")
    assert mark
    lines = (mark + pull).replace("    # ", "    ").replace("https://example.org/me/seqline.git", repository.as_uri())
    found = yaml.safe_load(head + lines)
    assert [list(step) for step in found["deployments"][0]["pull"]] == [
        ["prefect.deployments.steps.git_clone"],
        ["prefect.deployments.steps.run_shell_script"],
    ]
    return head + lines


def prefect(root: Path, env: dict[str, str], *words: str) -> None:
    command = [sys.executable, "-m", "prefect", *words]
    done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, timeout=flows.PATIENCE)
    assert done.returncode == 0, done.stdout + done.stderr


@contextlib.contextmanager
def worker(place: Path, env: dict[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    """A worker of the pool that bears the name of the folder `place`, in which its runs make their clones."""
    place.mkdir()
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", POOL, "--name", place.name]
    with (
        (place / "log").open("w") as log,
        subprocess.Popen(command, cwd=place, env=env | {"TMPDIR": str(place)}, stdout=log, stderr=log) as process,
    ):
        try:
            yield process
        finally:
            process.send_signal(signal.SIGCONT)
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(30)
            process.kill()


def below(place: Path) -> list[psutil.Process]:
    """The processes that are at work somewhere below the folder."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.cwd().startswith(str(place)) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def test_two_workers_do_one_run_after_the_other_and_the_second_trains_nothing(
    origin: Path, gate: Path, told: Path, tmp_path: Path
) -> None:
    home = tmp_path / "prefect"
    home.mkdir()
    with flows.server(home, PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS="2") as url:
        env = small.author(flows.surroundings(home, url)) | {"PREFECT_WORKER_QUERY_SECONDS": "1"}
        prefect(origin, env, "work-pool", "create", POOL, "--type", "process")
        prefect(origin, env, "--no-prompt", "deploy", "--all")
        [deployment] = flows.ask(url, "deployments/filter")

        def run() -> str:
            return str(flows.ask(url, f"deployments/{deployment['id']}/create_flow_run")["id"])

        def states(run: str) -> list[dict[str, Any]]:
            return list(flows.get(url, f"flow_run_states/?flow_run_id={run}"))

        def names(run: str) -> list[str]:
            return [state["name"] for state in states(run)]

        with worker(tmp_path / "one", env) as one:
            first = run()
            flows.wait_for(gate.with_suffix(".begun").exists, "the training in the first one's clone")
            with worker(tmp_path / "two", env):
                second = run()
                flows.wait_for(lambda: AWAITING in names(second), "the second run to be turned away for now")
                online = flows.ask(url, f"work_pools/{POOL}/workers/filter", workers={"status": {"any_": ["ONLINE"]}})
                flows.wait_for(lambda: online, "both")
                one.send_signal(signal.SIGSTOP)  # its run goes on; the next one is the other's
                gate.touch()
                for this in (first, second):
                    flows.wait_for(lambda this=this: {"Completed", "Failed", "Crashed"} & {*names(this)}, "a run's end")
        STATES = {r: states(r) for r in (first, second)}
        flows.wait_for(lambda: not below(tmp_path / "one") + below(tmp_path / "two"), "all to be gone")
    for r in (first, second): print([(s["name"], s["timestamp"], s["message"]) for s in STATES[r]])
    print(told.read_text(), online)
