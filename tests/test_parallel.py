"""Several processes that train one model: what they make is what one process makes, but for rounding; and how they end."""

import json
import math
import multiprocessing
import os
import pickle
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.compute as pc
import pytest
import stage_runs
import torch
import yaml
from fitting import adam, epochs
from safetensors.torch import load_file

from pipeline import tables
from pipeline.contracts import Sizes
from pipeline.errors import UserError
from pipeline.training import checkpoint, launcher, loop, parallel

ROOT = Path(__file__).resolve().parent.parent
RUNS = {"seq2seq": "toy_en_fr", "rnn": "toy_story"}


def params() -> dict[str, Any]:
    """Two small default runs of which an update reads four batches, dropout and all."""
    content: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    content["corpora"] = {name: content["corpora"][name] for name in RUNS.values()}
    for block in content["corpora"].values():
        block["source"]["builtin"]["sizes"] = {"train": 400, "valid": 60, "test": 60}
        block["read"] = block["read"] and {"files": {s: block["read"]["files"][s] for s in ("train", "valid", "test")}}
    content["compute"] |= {"device": "cpu", "processes": 2}
    content["runs"] = {name: content["runs"][name] for name in RUNS}
    for run in content["runs"].values():
        run["model"] |= {"embedding": 16, "hidden": 16, "dropout": 0.2}
        run["training"] |= {"max_epochs": 3, "accumulate": 4}
    content["runs"]["seq2seq"]["objective"] |= {"batch_tokens": 100}
    content["runs"]["rnn"]["objective"] |= {"batch_size": 4, "steps": 16, "sampling": "random"}
    return content


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both corpora ready to be trained on."""
    root = tmp_path_factory.mktemp("parallel")
    write(root, params())
    stage_runs.run(root, "scratch")
    for corpus in RUNS.values():
        for stage in ("download", "tokenize", "vocab", "encode"):
            stage_runs.run(root, stage, corpus)
    return root


def write(root: Path, content: dict[str, Any]) -> None:
    (root / "params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")


def command(root: Path, name: str, out: str) -> list[str]:
    """The train stage as DVC runs it, with another place for the model."""
    return [sys.executable, "-m", *stage_runs.words("train", name)[:-1], out]


def train(root: Path, name: str, out: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(root, name, out), cwd=root, env=stage_runs.environment(), capture_output=True, text=True, timeout=400
    )


@pytest.fixture(scope="module")
def trained(encoded: Path) -> Path:
    """The same folder, in which every run was trained by one process (`<name>_alone`) and by two (`<name>_together`)."""
    for processes, out in ((1, "alone"), (2, "together")):
        content = params()
        content["compute"]["processes"] = processes
        write(encoded, content)
        for name in RUNS:
            done = train(encoded, name, f"{name}_{out}")
            assert done.returncode == 0, done.stderr
    assert not list((encoded / ".seqline/training").glob("*")), "no work folder is left"
    return encoded


@pytest.mark.long
@pytest.mark.parametrize("name", RUNS)
def test_two_processes_make_what_one_makes_but_for_rounding(name: str, trained: Path) -> None:
    alone, together = (
        tables.read(trained / f"{name}_{out}/history.parquet", tables.HISTORY) for out in ("alone", "together")
    )
    assert alone.drop(["value"]).equals(together.drop(["value"]))
    np.testing.assert_allclose(together["value"].to_numpy(), alone["value"].to_numpy(), rtol=2e-4)
    losses = alone.filter(pc.equal(alone["name"], "valid/loss"))["value"].to_pylist()
    assert losses[1] < losses[0], "it learns"
    own, other = (load_file(trained / f"{name}_{out}/model.safetensors") for out in ("alone", "together"))
    for key, tensor in own.items():
        np.testing.assert_allclose(other[key].numpy(), tensor.numpy(), atol=2e-4, err_msg=key)


def nodes(roots: list[Path], name: str, out: str) -> list[subprocess.CompletedProcess[str]]:
    """`torchrun` with a node in each of the folders, all on this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meeting = f"127.0.0.1:{free.getsockname()[1]}"
    torchrun = [sys.executable, "-m", "torch.distributed.run", f"--nnodes={len(roots)}", "--nproc-per-node=1"]
    torchrun += ["--rdzv-backend=c10d", f"--rdzv-endpoint={meeting}", "--rdzv-id=test"]
    started = [
        subprocess.Popen(
            [*torchrun, "-m", "--", *command(root, name, out)[2:]],  # else torchrun takes --start for an own option
            cwd=root,
            env=stage_runs.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for root in roots
    ]
    said = [node.communicate(timeout=400) for node in started]
    return [subprocess.CompletedProcess(n.args, n.returncode, *s) for n, s in zip(started, said, strict=True)]


@pytest.mark.long
def test_two_nodes_with_disks_of_their_own_make_the_bytes_that_two_processes_make(trained: Path, tmp_path: Path) -> None:
    first, second = trained, tmp_path / "second"
    write(first, params())
    shutil.copytree(first, second)
    for done in nodes([first, second], "rnn", "nodes"):
        assert done.returncode == 0, done.stderr
    for file in ("model.safetensors", "history.parquet", "config.json"):
        assert (first / "nodes" / file).read_bytes() == (first / "rnn_together" / file).read_bytes()
    assert not (second / "nodes").exists(), "the first node writes, and it alone"
    with (second / "data/vocab/toy_story/vocab.json").open("a") as file:
        file.write(" ")
    ended = nodes([first, second], "rnn", "unlike")
    assert all(done.returncode for done in ended)
    assert "torchrun: got processes with other code, data or settings" in "".join(done.stderr for done in ended)
    assert not (first / "unlike").exists()


@pytest.mark.long
def test_a_mistake_is_told_in_a_line_by_several_processes_too(encoded: Path) -> None:
    content = params()
    content["runs"]["rnn"]["objective"]["sampling"] = "sequential"
    write(encoded, content)
    done = train(encoded, "rnn", "carried")
    said = [line for line in done.stderr.splitlines() if line]
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert len(said) == 1, done.stderr
    assert "compute.processes: got 2 with a task that carries its state" in done.stderr
    assert not (encoded / "carried").exists()


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


def test_two_processes_listen_on_loopback_only(encoded: Path) -> None:
    training = running(encoded, "listening")
    try:
        tree = [psutil.Process(training.pid), *psutil.Process(training.pid).children(recursive=True)]
        listening = [c.laddr for process in tree for c in process.net_connections("all") if c.status == psutil.CONN_LISTEN]
        private = [path for path in (encoded / ".seqline/training").glob("ranks-*") if path.is_dir()]
    finally:
        end(training)
    assert listening, "they talk over sockets"
    assert {address.ip for address in listening} <= {"127.0.0.1", "::1"}, listening
    assert [stat.S_IMODE(path.stat().st_mode) for path in private] == [0o700]
    shutil.rmtree(private[0])


@pytest.mark.long
def test_when_a_process_is_killed_the_others_end_and_one_line_says_so(encoded: Path) -> None:
    training = running(encoded, "one_killed")
    try:
        children = ranks(training)
        children[1].kill()
        _, said = training.communicate(timeout=600)
    finally:
        end(training)
    assert training.returncode == 128 + signal.SIGKILL
    assert said.startswith("seqline: training: process 2 of 2 was killed by signal 9.")
    assert said.count("\n") == 1, said
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


@pytest.mark.long
def test_a_failure_in_another_process_than_the_first_is_told_in_a_line(encoded: Path, tmp_path: Path) -> None:
    """A launcher of its own, whose second process fails as a user's mistake, its first with it."""
    program = """
import os, sys
from pathlib import Path
from pipeline.errors import UserError
from pipeline.training import launcher, parallel
if launcher.launched():
    group, _ = parallel.join("cpu", 2)
    if not group.first:
        launcher.leave_an_error(UserError("disk: got none"))
        sys.exit(2)
    try:
        group.from_first(lambda: 1)
        while True:
            group.same("x")
    except parallel.PeerLost:
        sys.exit(launcher.PEER_LOST)
else:
    sys.exit(launcher.launch(2, "failing", Path("work")))
"""
    (tmp_path / "failing.py").write_text(program)
    environment = stage_runs.environment()
    environment["PYTHONPATH"] += os.pathsep + str(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "failing"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
    )
    assert (done.returncode, done.stderr) == (2, "seqline: disk: got none\n")


def exchanged(rank: int, folder: str, results: Any) -> None:
    """What a process of two receives; run by `multiprocessing`."""
    place = {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank), "SEQLINE_RANKS": folder}
    os.environ.update(place, GLOO_SOCKET_IFNAME=launcher._loopback())
    pickle.loads = None  # type: ignore[assignment]
    group, _ = parallel.join("cpu", 2)
    figures = group.from_first(lambda: [math.inf, 0.1, {"é": None}])
    tensors = {"a": torch.arange(6.0).view(2, 3).T, "none": torch.zeros(0), "step": torch.tensor(3)}
    tensors["half"] = torch.ones(2, dtype=torch.bfloat16)
    state = group.state_from_first(lambda: (tensors, {"step": 3}))
    assert state is not None
    same = [torch.equal(state[0][name], tensor) and state[0][name].dtype == tensor.dtype for name, tensor in tensors.items()]
    results.put((rank, figures, same, state[1], group.state_from_first(lambda: None)))
    results.put((rank, group.same("x"), group.same(f"{rank}")))
    results.close()
    results.join_thread()
    parallel.leave()


def test_processes_exchange_figures_and_tensors_without_pickle(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [context.Process(target=exchanged, args=(rank, str(tmp_path), results)) for rank in range(2)]
    for process in processes:
        process.start()
    got = [results.get(timeout=600) for _ in range(4)]
    for process in processes:
        process.join()
    for rank in range(2):
        assert (rank, [math.inf, 0.1, {"é": None}], [True] * 4, {"step": 3}, None) in got
        assert (rank, True, False) in got


@pytest.mark.long
def test_when_the_first_of_them_is_killed_none_is_left_and_the_next_training_ends_as_ever(trained: Path) -> None:
    write(trained, params())
    killed = subprocess.Popen(
        command(trained, "rnn", "killed"), cwd=trained, env=stage_runs.environment(), stdout=subprocess.PIPE, text=True
    )
    assert killed.stdout is not None
    killed.stdout.readline()  # the first epoch is over
    children = [int(pid) for pid in Path(f"/proc/{killed.pid}/task/{killed.pid}/children").read_text().split()]
    assert len(children) >= 2
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    deadline = time.monotonic() + 600
    while any(alive(pid) for pid in children):
        assert time.monotonic() < deadline, "a process outlived its launcher"
        time.sleep(0.1)
    again = train(trained, "rnn", "killed")
    assert again.returncode == 0, again.stderr
    a, b = (load_file(trained / f"{out}/model.safetensors") for out in ("rnn_together", "killed"))
    for key, tensor in a.items():
        np.testing.assert_allclose(b[key].numpy(), tensor.numpy(), atol=2e-4, err_msg=key)
    assert json.loads((trained / "killed/config.json").read_text())["steps"] > 0


def test_a_process_that_comes_up_after_its_launcher_died_leaves() -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    told = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "9"}
    told |= {"TORCHELASTIC_RUN_ID": "test", "SEQLINE_LAUNCHER": str(gone.pid)}
    join = [sys.executable, "-c", "from pipeline.training import parallel; parallel.join('cpu', 2)"]
    ended = subprocess.run(join, env=stage_runs.environment() | told, capture_output=True, timeout=600)
    assert (ended.returncode, b"Traceback" in ended.stderr) == (1, False)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_run_takes_as_many_processes_as_divide_its_batches() -> None:
    assert [parallel.processes(wanted, 4) for wanted in (1, 2, 3, 4, 8)] == [1, 2, 1, 4, 4]
    assert parallel.processes(2, 1) == 1


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_a_model_with_batch_norm_trains_in_one_process_only(norm: str, tmp_path: Path) -> None:
    block = {
        "width": 8, "heads": 2, "feed_forward": 8, "encoder_layers": 1, "decoder_layers": 1, "dropout": 0.0, "norm": norm,
        "norm_first": True, "learned_positions": None, "tied": "none", "implementation": "fused",
    }  # fmt: skip
    model: Any = checkpoint.build("transformer", block, Sizes(8, 8, True), "model")

    def made(processes: int) -> loop.Loop:
        group = parallel.Group(0, processes)
        return loop.Loop(model, None, adam(0.1), epochs(1), seed=1, work=tmp_path, log=print, group=group)  # type: ignore[arg-type]

    made(1)
    if norm == "layer":
        made(2)
    else:
        with pytest.raises(UserError, match=r"^compute\.processes: got 2; expected 1, as this model's batch norm"):
            made(2)


def test_the_batches_are_divided_without_rest_or_repetition() -> None:
    shares = [parallel.Group(rank, 3).own("abcdefgh") for rank in range(3)]
    assert sorted(one for share in shares for one in share) == list(enumerate("abcdefgh"))


def test_more_processes_than_divide_the_batches_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(UserError, match=r"^training\.accumulate: got 4; expected a multiple of torchrun's 3 processes\."):
        parallel.join("cpu", 4)
