"""Process groups of stages: each is on record while it lives, and ended whole, so that a kill
leaves no orphan.

`dvc` that is killed leaves its stage's command running. So every stage is a process group of its
own, recorded as a file under `.seqline/flow/groups/` by the leader's id before anything is run in
it. Numbers are used again by the system: what is found under one counts as ours only if it carries
the mark of the flow that made the record in its environment."""

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

MARK = "SEQLINE_FLOW"  # in the environment of all that a flow starts
_TERM_SECONDS, _KILL_SECONDS = 5.0, 5.0
END_SECONDS = _TERM_SECONDS + _KILL_SECONDS  # how long `end` may take


def folder(root: Path) -> Path:
    """Folder of the records of the project's groups."""
    return root / state_dir.PROCESS_GROUPS


def record(root: Path, group: int) -> None:
    """Put the group on record; in the group's first process, before it does anything."""
    _write(root, group, os.environ.get(MARK, ""))


def start(
    root: Path, command: Sequence[str], env: Mapping[str, str], out: IO[Any]
) -> "subprocess.Popen[bytes]":
    """Run the command in the folder `root`, as a group of its own that is on record before it does
    anything.

    `env` has a mark. The command waits for the record, and never begins if this process dies before
    it."""
    waiting = ["sh", "-c", 'read -r go && exec "$@" </dev/null', "sh", *command]
    process = subprocess.Popen(
        waiting,
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
        with suppress(BrokenPipeError):  # it was killed: its status tells
            process.stdin.write(b"go\n")
    finally:
        with suppress(BrokenPipeError):
            process.stdin.close()
    return process


def _write(root: Path, group: int, mark: str) -> None:
    place = folder(root) / str(group)
    beside = place.with_name(f"{group}.partial")
    beside.write_text(json.dumps({"mark": mark}), encoding="utf-8")
    beside.rename(place)


def end(root: Path, group: int, gently: bool) -> None:
    """End every process of the group, with some seconds to leave if `gently`, and strike it off the
    record."""
    for sign, patience in ((signal.SIGTERM, _TERM_SECONDS), (signal.SIGKILL, _KILL_SECONDS)):
        if sign == signal.SIGTERM and not gently:
            continue
        try:
            os.killpg(group, sign)
        except ProcessLookupError:
            break
        if _gone(group, patience):
            break
    (folder(root) / str(group)).unlink(missing_ok=True)


def end_orphans(root: Path) -> list[int]:
    """End what a killed flow left over; the groups in which something was still alive."""
    found = []
    for place in sorted(folder(root).glob("*")):
        if not place.name.isdecimal():
            place.unlink(missing_ok=True)
            continue
        with suppress(OSError, ValueError):
            mark = json.loads(place.read_text(encoding="utf-8"))["mark"]
            if any(_marked(process, mark) for process in _members(int(place.name))):
                found.append(int(place.name))
                end(root, int(place.name), gently=False)
        place.unlink(missing_ok=True)
    return found


def _members(group: int) -> list[psutil.Process]:
    """The group's processes that run; a zombie does not."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError, PermissionError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def _marked(process: psutil.Process, mark: str) -> bool:
    try:
        return bool(mark) and process.environ().get(MARK) == mark
    except (psutil.Error, OSError):
        return False


def _gone(group: int, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while True:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        if time.monotonic() > until or not _members(group):
            return not _members(group)
        time.sleep(0.02)
