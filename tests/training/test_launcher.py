"""Processes of one training: their sockets and exchanges, and their common end."""

import math
import multiprocessing
import os
import pickle
import shutil
import signal
import stat
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import parallel_project
import psutil
import pytest
import stage_runs
import torch
from parallel_project import command, params, write

from pipeline.training import launcher, parallel

encoded = parallel_project.encoded  # a fixture


def started(root: Path, name: str, out: str, **environment: str) -> subprocess.Popen[str]:
    """A training that runs; its launcher is the first of a process group of its own."""
    return subprocess.Popen(
        command(root, name, out),
        cwd=root,
        env=stage_runs.environment() | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def long_training(root: Path) -> None:
    """Settings of a training that does not end while a test looks at it."""
    content = params()
    content["runs"]["rnn"]["training"]["max_epochs"] = 10_000
    write(root, content)


def running(root: Path, out: str) -> subprocess.Popen[str]:
    """A long training of two processes whose first epoch is over."""
    long_training(root)
    training = started(root, "rnn", out)
    assert training.stdout is not None
    assert "valid/loss" in training.stdout.readline()
    return training


def ranks(training: subprocess.Popen[str]) -> list[psutil.Process]:
    """The processes that the launcher has started, by rank."""
    children = psutil.Process(training.pid).children()
    return sorted(children, key=lambda child: int(child.environ()["RANK"]))


def end(training: subprocess.Popen[str]) -> None:
    """End the whole process group."""
    with suppress(ProcessLookupError):
        os.killpg(training.pid, signal.SIGKILL)
    training.communicate()


@pytest.mark.long
def test_two_processes_listen_on_loopback_only(encoded: Path) -> None:
    training = running(encoded, "listening")
    try:
        tree = [
            psutil.Process(training.pid),
            *psutil.Process(training.pid).children(recursive=True),
        ]
        listening = [
            c.laddr
            for process in tree
            for c in process.net_connections("all")
            if c.status == psutil.CONN_LISTEN
        ]
        private = [
            path for path in (encoded / ".seqline/training").glob("ranks-*") if path.is_dir()
        ]
    finally:
        end(training)
    assert listening, "they talk over sockets"
    assert {address.ip for address in listening} <= {"127.0.0.1", "::1"}, listening
    assert [stat.S_IMODE(path.stat().st_mode) for path in private] == [0o700]
    shutil.rmtree(private[0])


@pytest.mark.long
def test_killed_process_ends_the_others_with_one_line(encoded: Path) -> None:
    training = running(encoded, "one_killed")
    try:
        children = ranks(training)
        children[1].kill()
        _, error = training.communicate(timeout=600)
    finally:
        end(training)
    assert training.returncode == 128 + signal.SIGKILL
    assert error.startswith("seqline: training: process 2 of 2 was killed by signal 9.")
    assert error.count("\n") == 1, error
    assert not any(child.is_running() for child in children)
    assert not list((encoded / ".seqline/training").glob("ranks-*"))


@pytest.mark.long
@pytest.mark.parametrize("whole_group", [True, False])
def test_ctrl_c_ends_every_process(whole_group: bool, encoded: Path) -> None:
    """A terminal sends the signal to all of them; `kill -INT` to the launcher alone."""
    training = running(encoded, "interrupted")
    try:
        children = ranks(training)
        (os.killpg if whole_group else os.kill)(training.pid, signal.SIGINT)
        training.communicate(timeout=600)
    finally:
        end(training)
    assert training.returncode != 0
    assert not any(child.is_running() for child in children)
    assert not list((encoded / ".seqline/training").glob("ranks-*"))


def launched(program: str, folder: Path) -> tuple[int, str]:
    """Run the text as a module `program`, which launches itself; return its status and stderr."""
    (folder / "program.py").write_text(program)
    environment = stage_runs.environment()
    environment["PYTHONPATH"] += os.pathsep + str(folder)
    command = [sys.executable, "-m", "program"]
    process = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600
    )
    return process.returncode, process.stderr


@pytest.mark.long
def test_a_failure_in_another_process_than_the_first_is_reported_in_one_line(
    encoded: Path, tmp_path: Path
) -> None:
    """A launcher of its own, whose second process fails as a user's mistake, its first with it."""
    program = """
import os, sys
from pathlib import Path
from pipeline.core.errors import UserError
from pipeline.training import launcher, parallel
if launcher.is_launched():
    group, _ = parallel.join("cpu", 2)
    if not group.is_first:
        launcher.save_error(UserError("disk: got none"), 2)
        sys.exit(2)
    try:
        group.broadcast(lambda: 1)
        while True:
            group.all_equal("x")
    except parallel.PeerLost:
        sys.exit(launcher.PEER_LOST)
    finally:
        parallel.leave()
else:
    sys.exit(launcher.launch(2, "program", Path("work")))
"""
    assert launched(program, tmp_path) == (2, "seqline: disk: got none\n")


@pytest.mark.parametrize("cause", [0, 1])
def test_an_abort_hides_no_error_that_a_process_saved(cause: int, tmp_path: Path) -> None:
    """gloo aborts the first process: before the second, which is the cause, has ended; or as the
    cause, before it has printed its error."""
    program = """
import os, signal, sys, time
from pathlib import Path
from pipeline.core.errors import UserError
from pipeline.training import launcher
if not launcher.is_launched():
    sys.exit(launcher.launch(2, "program", Path("work")))
if os.environ["RANK"] == "CAUSE":
    launcher.save_error(UserError("disk: got none"), 2)
if os.environ["RANK"] == "1":
    signal.pause()
while not (launcher.private_folder() / "error-CAUSE").exists():
    time.sleep(0.01)
os.abort()
""".replace("CAUSE", str(cause))
    assert launched(program, tmp_path) == (2, "seqline: disk: got none\n")


def exchanged(rank: int, folder: str, results: Any) -> None:
    """Put what one process of two receives into the queue; run by `multiprocessing`."""
    place = {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank), "SEQLINE_RANKS": folder}
    os.environ.update(place, GLOO_SOCKET_IFNAME=launcher._loopback())
    pickle.loads = None  # type: ignore[assignment]
    group, _ = parallel.join("cpu", 2)
    figures = group.broadcast(lambda: [math.inf, 0.1, {"é": None}])
    tensors = {"a": torch.arange(6.0).view(2, 3).T, "none": torch.zeros(0), "step": torch.tensor(3)}
    tensors["half"] = torch.ones(2, dtype=torch.bfloat16)
    state = group.broadcast_state(lambda: (tensors, {"step": 3}))
    assert state is not None
    same = [
        torch.equal(state[0][name], tensor) and state[0][name].dtype == tensor.dtype
        for name, tensor in tensors.items()
    ]
    results.put((rank, figures, same, state[1], group.broadcast_state(lambda: None)))
    results.put((rank, group.all_equal("x"), group.all_equal(f"{rank}")))
    results.close()
    results.join_thread()
    parallel.leave()


@pytest.mark.long
def test_processes_exchange_figures_and_tensors_without_pickle(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [
        context.Process(target=exchanged, args=(rank, str(tmp_path), results)) for rank in range(2)
    ]
    for process in processes:
        process.start()
    received = [results.get(timeout=600) for _ in range(4)]
    for process in processes:
        process.join()
    for rank in range(2):
        assert (rank, [math.inf, 0.1, {"é": None}], [True] * 4, {"step": 3}, None) in received
        assert (rank, True, False) in received


def test_a_process_that_comes_up_after_its_launcher_died_leaves() -> None:
    launcher = subprocess.Popen(["true"])
    launcher.wait()
    environment = {
        "RANK": "1",
        "WORLD_SIZE": "2",
        "LOCAL_RANK": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "9",
    }
    environment |= {"TORCHELASTIC_RUN_ID": "test", "SEQLINE_LAUNCHER": str(launcher.pid)}
    join = [sys.executable, "-c", "from pipeline.training import parallel; parallel.join('cpu', 2)"]
    ended = subprocess.run(
        join, env=stage_runs.environment() | environment, capture_output=True, timeout=600
    )
    assert (ended.returncode, b"Traceback" in ended.stderr) == (1, False)
