"""Process groups of stages: each is recorded while it lives and ended as a whole, so that a kill
leaves no orphan.

A `dvc` that is killed leaves its stage's command running. So every stage has its own process group,
recorded as a file under `.seqline/flow/groups/` by the leader's id before anything is run in it.
The system reuses numbers. So a process counts as the flow's only if its environment has the mark of
the flow that wrote the record."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import psutil

from pipeline.core import state_dir
from pipeline.core.atomic import write_file

MARK = "SEQLINE_FLOW"  # in the environment of all that a flow starts
_TERM_SECONDS = 5.0
_KILL_SECONDS = 5.0
_POLL_SECONDS = 0.02
END_SECONDS = _TERM_SECONDS + _KILL_SECONDS  # the longest time that `end` takes


def folder(root: Path) -> Path:
    """Return the folder of the records of the project's groups."""
    return root / state_dir.PROCESS_GROUPS


def record(root: Path, group: int) -> None:
    """Record the group; called in its first process, before it does anything."""
    _write(root, group, os.environ.get(MARK, ""))


def start_recorded(
    root: Path, command: Sequence[str], env: Mapping[str, str], out: IO[Any]
) -> "subprocess.Popen[bytes]":
    """Run the command in the folder `root`, as a process group that is recorded before it does
    anything. The caller holds `project_lock.flow_lock`: whoever takes it ends recorded groups.

    `env` has a mark. The command waits for the record, and never starts if this process dies
    first."""
    # The shell waits for a line on its input, then becomes the command.
    delayed = ["sh", "-c", 'read -r go && exec "$@" </dev/null', "sh", *command]
    process = subprocess.Popen(
        delayed,
        cwd=root,
        env=env,
        stdin=subprocess.PIPE,
        stdout=out,
        stderr=out,
        start_new_session=True,
    )

    assert process.stdin is not None
    try:
        _write(root, process.pid, env[MARK])
        with suppress(BrokenPipeError):  # it was killed, which its status shows
            process.stdin.write(b"go\n")
    finally:
        with suppress(BrokenPipeError):
            process.stdin.close()
    return process


def start_unrecorded(
    root: Path, command: Sequence[str], env: Mapping[str, str], out: IO[Any]
) -> "subprocess.Popen[bytes]":
    """Run the command in the folder `root`, as a process group that no flow ends."""
    return subprocess.Popen(
        command,
        cwd=root,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=out,
        start_new_session=True,
    )


def _write(root: Path, group: int, mark: str) -> None:
    # Not synced: no process is left after a power cut.
    content = json.dumps({"mark": mark}).encode()
    write_file(folder(root) / str(group), content, sync=False)


def end(root: Path, group: int, gently: bool) -> None:
    """End every process of the group and remove its record, if it has one.

    `gently` sends SIGTERM first, and SIGKILL only after some seconds."""
    term = (signal.SIGTERM, _TERM_SECONDS)
    kill = (signal.SIGKILL, _KILL_SECONDS)
    with suppress(ProcessLookupError):
        for number, seconds in (term, kill) if gently else (kill,):
            os.killpg(group, number)
            if _wait_empty(group, seconds):
                break
    (folder(root) / str(group)).unlink(missing_ok=True)


def end_orphans(root: Path) -> list[int]:
    """End the processes that a killed flow left; return the groups in which one was alive."""
    orphans = []
    for path in sorted(folder(root).glob("*")):
        if not path.name.isdecimal():  # a record that was not completed
            path.unlink(missing_ok=True)
            continue
        group = int(path.name)
        with suppress(OSError, ValueError):
            mark = json.loads(path.read_text(encoding="utf-8"))["mark"]
            if mark and any(_has_mark(process, mark) for process in _members(group)):
                orphans.append(group)
                end(root, group, gently=False)
        path.unlink(missing_ok=True)
    return orphans


def _members(group: int) -> list[psutil.Process]:
    """Return the group's processes that run; a zombie does not run."""
    members = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError, PermissionError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                members.append(process)
    return members


def _has_mark(process: psutil.Process, mark: str) -> bool:
    with suppress(psutil.Error, OSError):
        return bool(process.environ().get(MARK) == mark)
    return False


def _wait_empty(group: int, seconds: float) -> bool:
    """Wait until the group has no running process, at most so long; return whether it has none."""
    deadline = time.monotonic() + seconds
    with suppress(ProcessLookupError):
        while True:
            os.killpg(group, 0)  # signal 0 only asks whether the group exists
            if time.monotonic() > deadline or not _members(group):
                return not _members(group)
            time.sleep(_POLL_SECONDS)
    return True
