"""A process known by more than its number: across reuse of the number, boots and PID namespaces."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.core import process_identity
from pipeline.core.process_identity import current_process, parse

ROOT = Path(__file__).resolve().parents[2]
SAY_IDENTITY = (
    "from pipeline.core.process_identity import current_process as me; print(me(), "
    "flush=True); input()"
)


def started() -> "subprocess.Popen[str]":
    """A process that says its identity and waits for a line."""
    return subprocess.Popen(
        [sys.executable, "-c", SAY_IDENTITY],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_process_is_alive_by_its_identity_until_it_ends() -> None:
    with started() as process:
        assert process.stdout is not None
        written = parse(process.stdout.readline())
        assert written is not None
        assert written.pid == process.pid
        assert written.is_alive()
        assert written != current_process()
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert not written.is_alive(), "a zombie does not run"
        process.wait()
        assert not written.is_alive()


@pytest.mark.parametrize(
    "change",
    [{"started": "1"}, {"boot_id": "0f0e"}, {"namespace": "pid:[1]"}],
    ids=lambda change: next(iter(change)),
)
def test_another_process_with_the_same_number_has_another_identity(change: dict[str, str]) -> None:
    me = current_process()
    assert me.is_alive()
    assert not replace(me, **change).is_alive()


NO_IDENTITY = [
    "",
    "1",
    f"{os.getpid()}",
    "1 2 3",
    "1 2 3 4 5",
    "x y z w",
    "1 2 a/b c",
    "9" * 5000,
    "\0",
]


# a number of its own in each of pytest's workers
@pytest.mark.parametrize("text", NO_IDENTITY, ids=range(len(NO_IDENTITY)))
def test_a_text_that_is_no_identity_is_read_as_none(text: str, tmp_path: Path) -> None:
    assert parse(text) is None
    (tmp_path / "lock").write_text(text)
    assert process_identity.read(tmp_path / "lock") is None


def test_an_identity_survives_being_written_and_read(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text(f"{current_process()}\n")
    assert process_identity.read(tmp_path / "lock") == current_process()
    assert process_identity.read(tmp_path) is None, "a folder"
    assert process_identity.read(tmp_path / "absent") is None


def test_a_number_of_another_namespace_is_not_looked_up_in_this_one() -> None:
    command = ["unshare", "--fork", "--pid", sys.executable, "-c", SAY_IDENTITY]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*command[:3], "true"], capture_output=True).returncode
    ):
        pytest.skip("no PID namespaces here")
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        written = parse(process.stdout.readline())
        assert written is not None
        assert written.pid == 1, "the first of its namespace, whose number is init's here"
        assert not written.is_alive()
        process.communicate("\n")
