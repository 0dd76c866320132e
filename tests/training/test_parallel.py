"""Several processes that train one model: the result is that of one process, but for rounding."""

import json
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import parallel_project
import pyarrow.compute as pc
import pytest
import stage_runs
from fitting import adam, epochs
from parallel_project import RUNS, command, params, train, write
from safetensors.torch import load_file
from waiting import wait_for

from pipeline.contracts import Sizes
from pipeline.core import tables
from pipeline.core.errors import UserError
from pipeline.training import checkpoint, loop, parallel

encoded = parallel_project.encoded  # a fixture


@pytest.fixture(scope="module")
def trained(encoded: Path) -> Path:
    """The same folder, in which every run was trained by one process (`<name>_alone`) and by two
    (`<name>_together`)."""
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
def test_two_processes_match_one_up_to_rounding(name: str, trained: Path) -> None:
    alone, together = (
        tables.read(trained / f"{name}_{out}/history.parquet", tables.HISTORY)
        for out in ("alone", "together")
    )
    assert alone.drop(["value"]).equals(together.drop(["value"]))
    np.testing.assert_allclose(together["value"].to_numpy(), alone["value"].to_numpy(), rtol=2e-4)
    losses = alone.filter(pc.equal(alone["name"], "valid/loss"))["value"].to_pylist()
    assert losses[1] < losses[0], "it learns"
    own, other = (
        load_file(trained / f"{name}_{out}/model.safetensors") for out in ("alone", "together")
    )
    for key, tensor in own.items():
        np.testing.assert_allclose(other[key].numpy(), tensor.numpy(), atol=2e-4, err_msg=key)


def nodes(roots: list[Path], name: str, out: str) -> list[subprocess.CompletedProcess[str]]:
    """`torchrun` with a node in each of the folders, all on this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meeting = f"127.0.0.1:{free.getsockname()[1]}"
    torchrun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        f"--nnodes={len(roots)}",
        "--nproc-per-node=1",
    ]
    torchrun += ["--rdzv-backend=c10d", f"--rdzv-endpoint={meeting}", "--rdzv-id=test"]
    started = [
        subprocess.Popen(
            # else torchrun takes --start for an own option
            [*torchrun, "-m", "--", *command(root, name, out)[2:]],
            cwd=root,
            env=stage_runs.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for root in roots
    ]
    said = [node.communicate(timeout=400) for node in started]
    return [
        subprocess.CompletedProcess(n.args, n.returncode, *s)
        for n, s in zip(started, said, strict=True)
    ]


@pytest.mark.long
def test_two_nodes_with_disks_of_their_own_make_the_bytes_that_two_processes_make(
    trained: Path, tmp_path: Path
) -> None:
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
    assert "torchrun: got processes with other code, data or settings" in "".join(
        done.stderr for done in ended
    )
    assert not (first / "unlike").exists()


@pytest.mark.long
def test_mistake_is_one_line_with_several_processes(encoded: Path) -> None:
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


@pytest.mark.long
def test_killed_first_process_leaves_no_other_and_training_resumes(trained: Path) -> None:
    write(trained, params())
    killed = subprocess.Popen(
        command(trained, "rnn", "killed"),
        cwd=trained,
        env=stage_runs.environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert killed.stdout is not None
    killed.stdout.readline()  # the first epoch is over
    children = [
        int(pid)
        for pid in Path(f"/proc/{killed.pid}/task/{killed.pid}/children").read_text().split()
    ]
    assert len(children) >= 2
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    wait_for(lambda: not any(alive(pid) for pid in children), "the launcher's processes to end")
    again = train(trained, "rnn", "killed")
    assert again.returncode == 0, again.stderr
    a, b = (load_file(trained / f"{out}/model.safetensors") for out in ("rnn_together", "killed"))
    for key, tensor in a.items():
        np.testing.assert_allclose(b[key].numpy(), tensor.numpy(), atol=2e-4, err_msg=key)
    assert json.loads((trained / "killed/config.json").read_text())["steps"] > 0


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_run_takes_as_many_processes_as_divide_its_batches() -> None:
    assert [parallel.process_count(wanted, 4) for wanted in (1, 2, 3, 4, 8)] == [1, 2, 1, 4, 4]
    assert parallel.process_count(2, 1) == 1


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_a_model_with_batch_norm_trains_in_one_process_only(norm: str, tmp_path: Path) -> None:
    block = {
        "width": 8,
        "heads": 2,
        "feed_forward": 8,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "variants": [],
        "dropout": 0.0,
        "norm": norm,
        "norm_first": True,
        "learned_positions": None,
        "tied": "none",
        "implementation": "fused",
    }
    model: Any = checkpoint.build("transformer", block, Sizes(8, 8, True), "model")

    def made(processes: int) -> loop.Loop:
        group = parallel.Group(0, processes)
        return loop.Loop(
            model, None, adam(0.1), epochs(1), seed=1, work=tmp_path, log=print, group=group
        )  # type: ignore[arg-type]

    made(1)
    if norm == "layer":
        made(2)
    else:
        with pytest.raises(
            UserError, match=r"^compute\.processes: got 2; expected 1, as this model's batch norm"
        ):
            made(2)


def test_the_batches_are_divided_without_rest_or_repetition() -> None:
    shares = [parallel.Group(rank, 3).local_batches("abcdefgh") for rank in range(3)]
    assert sorted(one for share in shares for one in share) == list(enumerate("abcdefgh"))


def test_more_processes_than_divide_the_batches_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(
        UserError,
        match=r"^training\.accumulate: got 4; expected a multiple of torchrun's 3 processes\.",
    ):
        parallel.join("cpu", 4)
