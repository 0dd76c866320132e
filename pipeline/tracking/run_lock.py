"""One writer at a time to an MLflow run of this project: its follower, or `seqline sync`. No mlflow
here."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple, TextIO
from urllib.parse import quote

from pipeline.core import process_identity, state_dir
from pipeline.core.locks import file_lock, try_lock
from pipeline.core.process_identity import ProcessIdentity, current_process
from pipeline.tracking import describe

Role = Literal["follower", "sync"]
_NOT_TAKEN_OVER = ("sync", "")  # "": a holder that has not written its role yet


class Busy(Exception):
    """Another process holds the run and has not released it in time."""

    def __init__(self, holder: "Holder") -> None:
        super().__init__(str(holder))
        self.holder = holder


class Holder(NamedTuple):
    """The process that holds a lock, as it wrote itself into it; `process` is None if this process
    cannot see it."""

    process: ProcessIdentity | None
    role: str

    def __str__(self) -> str:
        return f"process {self.process.pid}" if self.process is not None else "another process"


def patience(seconds: float) -> Callable[[], bool]:
    """Return a condition that is true for so many seconds, for `sole`."""
    deadline = time.monotonic() + seconds
    return lambda: time.monotonic() < deadline


@contextmanager
def sole(
    root: Path, key: tuple[str, str], patient: Callable[[], bool], role: Role
) -> Iterator[Callable[[], bool]]:
    """Hold the lock of the run of `key`; wait for it while `patient()`, then raise Busy.

    Yield a function that tells whether it is still held: `take_over` may have given the run to
    another process."""
    path = _lock_path(root, key)
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with path.open("a+") as handle:
            while not try_lock(handle):
                if not patient():
                    raise Busy(_holder(path))
                time.sleep(0.1)
            if not _is_at(handle, path):  # `take_over` removed it while this waited
                continue
            handle.truncate(0)
            handle.write(f"{current_process()}\n{role}\n")
            handle.flush()
            yield lambda: _is_at(handle, path)
            return


def is_held(root: Path, key: tuple[str, str]) -> bool:
    """Return whether a process holds the lock of the run."""
    path = _lock_path(root, key)
    if not path.exists():
        return False
    with path.open("a+") as handle:
        return not try_lock(handle)


def take_over(root: Path, key: tuple[str, str], seconds: float) -> None:
    """Replace the lock of a follower that does not end by a free one.

    No process is killed: the number in a lock may belong to any process. The follower sees that it
    has lost the lock before its next call to the store, and ends; this waits up to `seconds` for
    it."""
    path = _lock_path(root, key)
    with file_lock(locks(root) / "take_over.lock"), path.open("a+") as handle:
        if try_lock(handle) or _holder(path).role in _NOT_TAKEN_OVER:
            return  # the follower has ended, or another sync has taken over
        path.unlink(missing_ok=True)
        until = time.monotonic() + seconds
        while not try_lock(handle) and time.monotonic() < until:
            time.sleep(0.1)


def _lock_path(root: Path, key: tuple[str, str]) -> Path:
    return locks(root) / f"{file_name(key)}.lock"


def file_name(key: tuple[str, str]) -> str:
    """Return a file name for a run's name and digest, neither of which can lead out of the
    folder."""
    run, digest = (quote(part, safe=" ").replace(".", "%2E") for part in key)
    return f"{run[:150]}-{digest[:16]}"


def _holder(path: Path) -> Holder:
    try:
        identity, _, role = path.read_text(encoding="utf-8").partition("\n")
    except (OSError, ValueError):
        return Holder(None, "")
    process = process_identity.parse(identity)
    # of an older version, which wrote a bare number
    role = role.strip() or ("follower" if identity else "")
    return Holder(process if process is not None and process.is_alive() else None, role)


def _is_at(handle: TextIO, path: Path) -> bool:
    """Return whether the open file is still the one at `path`."""
    try:
        return os.path.samestat(path.stat(), os.fstat(handle.fileno()))
    except OSError:
        return False


def locks(root: Path) -> Path:
    """Return the folder of the locks that keep two writers off one run."""
    return describe.home(root) / state_dir.TRACKING
