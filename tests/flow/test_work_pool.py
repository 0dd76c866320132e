"""Two workers of a Prefect work pool, every run in a clone of its own: one at a time, each begins
where the last ended."""

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import flows
import psutil
import pytest
import retrain_project as small
import yaml
from waiting import HANG_SECONDS, wait_for

from benchmarks import made_dag

POOL = "seqline"
pytestmark = pytest.mark.long
AWAITING, ENDS = "AwaitingConcurrencySlot", {"Completed", "Failed", "Crashed", "Skipped"}
# The stage `train` says in GATE.begun where it has begun, and goes on when GATE is there.
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
_TELL = 'git push -q origin HEAD:main && echo "$SEQLINE_EVENT $PWD" >> {event_log}'


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Path]:
    """The file that the training waits for; in the end it is there at any rate, so that nothing
    waits for ever."""
    yield tmp_path / "gate"
    (tmp_path / "gate").touch()


@pytest.fixture
def event_log(tmp_path: Path) -> Path:
    """A file in which every retraining of the project says what came of it, and where."""
    return tmp_path / "told"


@pytest.fixture
def origin(gate: Path, event_log: Path, tmp_path: Path) -> Path:
    """A repository with two stages and a remote of DVC's that holds nothing yet; every retraining
    publishes what it made."""
    root = made_dag.make(tmp_path / "project", 0, 0)
    (root / "dvc.yaml").write_text(_STAGES.format(gate=gate))
    (root / "held.py").write_text(_HELD)
    (root / "params.yaml").write_text(
        (root / "params.yaml").read_text() + "corpora: {}\nruns: {}\n"
    )
    (root / "flow.yaml").write_text((flows.ROOT / "flow.yaml").read_text())
    tell = {
        "command": ["sh", "-c", _TELL.format(event_log=event_log)],
        "events": ["kept", "failed", "nothing"],
    }
    small.settings(root, publish={"push": True, "commit": True}, notify=tell)
    (root / "prefect.yaml").write_text(
        cloning((flows.ROOT / "prefect.yaml").read_text(), tmp_path / "origin.git")
    )
    subprocess.run(
        ["dvc", "remote", "add", "-q", "-d", "store", str(tmp_path / "store")], cwd=root, check=True
    )
    for words in (["add", "."], ["commit", "-q", "-m", "two stages"], ["branch", "-M", "main"]):
        small.git(root, *words)
    small.git(root, "clone", "-q", "--bare", str(root), str(tmp_path / "origin.git"))
    return root


def cloning(text: str, repository: Path) -> str:
    """The project's prefect.yaml with its `pull` section, of which the comment marks are taken
    away, for this repository."""
    head, mark, pull = text.partition("    # pull:")
    assert mark
    lines = (
        (mark + pull)
        .replace("    # ", "    ")
        .replace("https://example.org/me/seqline.git", repository.as_uri())
    )
    found = yaml.safe_load(head + lines)
    assert [list(step) for step in found["deployments"][0]["pull"]] == [
        ["prefect.deployments.steps.git_clone"],
        ["prefect.deployments.steps.run_shell_script"],
    ]
    return head + lines


def prefect(root: Path, env: dict[str, str], *words: str) -> None:
    command = [sys.executable, "-m", "prefect", *words]
    done = subprocess.run(
        command, cwd=root, env=env, capture_output=True, text=True, timeout=HANG_SECONDS
    )
    assert done.returncode == 0, done.stdout + done.stderr


@contextlib.contextmanager
def worker(place: Path, env: dict[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    """A worker of the pool that bears the name of the folder `place`, in which its runs make their
    clones."""
    place.mkdir()
    command = [
        sys.executable,
        "-m",
        "prefect",
        "worker",
        "start",
        "--pool",
        POOL,
        "--name",
        place.name,
    ]
    with (
        (place / "log").open("w") as log,
        subprocess.Popen(
            command, cwd=place, env=env | {"TMPDIR": str(place)}, stdout=log, stderr=log
        ) as process,
    ):
        try:
            yield process
        finally:
            process.send_signal(signal.SIGCONT)
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(HANG_SECONDS)
            process.kill()


def below(place: Path) -> list[psutil.Process]:
    """The processes that are at work somewhere below the folder."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.cwd().startswith(str(place)) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def states(url: str, run: str) -> dict[str, dict[str, Any]]:
    """The states that the run has been in, by their names."""
    return {state["name"]: state for state in flows.get(url, f"flow_run_states/?flow_run_id={run}")}


def test_two_workers_run_in_turn_and_the_second_trains_nothing(
    origin: Path, gate: Path, event_log: Path, tmp_path: Path
) -> None:
    with flows.server(
        tmp_path, PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS="2"
    ) as url:
        env = small.author(flows.surroundings(tmp_path, url)) | {
            "PREFECT_WORKER_QUERY_SECONDS": "1"
        }
        prefect(origin, env, "work-pool", "create", POOL, "--type", "process")
        prefect(origin, env, "--no-prompt", "deploy", "--all")
        [deployment] = flows.ask(url, "deployments/filter")
        with worker(tmp_path / "one", env) as one:
            first = flows.ask(url, f"deployments/{deployment['id']}/create_flow_run")["id"]
            wait_for(gate.with_suffix(".begun").exists, "the training in the first clone")
            with worker(tmp_path / "two", env):
                second = flows.ask(url, f"deployments/{deployment['id']}/create_flow_run")["id"]
                wait_for(
                    lambda: AWAITING in states(url, second),
                    "the second run to be turned away for now",
                )
                one.send_signal(signal.SIGSTOP)  # its run goes on; the next one is the other's
                gate.touch()
                for run in (first, second):
                    wait_for(lambda run=run: ENDS & states(url, run).keys(), "the end of a run")
        before, after = states(url, first), states(url, second)
    assert "2 stages in" in before["Completed"]["message"]
    assert "2 run\ndvc push: 2 files pushed\ngit commit: " in before["Completed"]["message"]
    assert after["Completed"]["message"].endswith("2 up to date")
    assert datetime.fromisoformat(before["Completed"]["timestamp"]) <= datetime.fromisoformat(
        after["Running"]["timestamp"]
    )
    ended = [line.split() for line in event_log.read_text().splitlines()]
    assert [event for event, _ in ended] == ["kept", "nothing"]
    assert [Path(place).relative_to(tmp_path).parts[0] for _, place in ended] == ["one", "two"]
    assert gate.with_suffix(".begun").read_text() == ended[0][1], "trained once"
    wait_for(lambda: not below(tmp_path / "one") + below(tmp_path / "two"), "all to be gone")
    subprocess.run(["dvc", "repro", "--quiet"], cwd=origin, env=env, check=True)
    assert (
        small.git(tmp_path / "origin.git", "show", "main:dvc.lock")
        == (origin / "dvc.lock").read_text().strip()
    )
