"""One writer at a time to an MLflow run of this project: its follower, or `seqline sync`. No mlflow here."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple, TextIO
from urllib.parse import quote

from pipeline import process_identity
from pipeline.landing import exclusive, try_lock
from pipeline.process_identity import ProcessIdentity, current_process
from pipeline.tracking import describe

Role = Literal["follower", "sync"]
_NOT_TAKEN_OVER = ("sync", "")  # none yet: it has just come


class Busy(Exception):
    """Another process has been writing to the run all the time."""

    def __init__(self, holder: "Holder") -> None:
        super().__init__(str(holder))
        self.holder = holder


class Holder(NamedTuple):
    """What the holder of a lock wrote into it; `process` is None if it is nobody that this process can see."""

    process: ProcessIdentity | None
    role: str

    def __str__(self) -> str:
        return f"process {self.process.pid}" if self.process is not None else "another process"


@contextmanager
def sole(root: Path, key: tuple[str, str], patient: Callable[[], bool], role: Role) -> Iterator[Callable[[], bool]]:
    """Be the only one that writes to the run of `key`; wait for another while `patient()`, then `Busy`.

    What it gives says whether it is still so: `take_over` may have given the run to somebody else.
    """
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


def take_over(root: Path, key: tuple[str, str], seconds: float) -> None:
    """Put a free lock in the place of the one of a follower that does not come to its end.

    No process is ended: a number in a file may be anybody's. The follower sees it before its next call to the store, and
    leaves; it has some `seconds` for that.
    """
    path = _lock_path(root, key)
    with exclusive(locks(root) / "take_over.lock"), path.open("a+") as handle:
        if try_lock(handle) or _holder(path).role in _NOT_TAKEN_OVER:
            return  # it has left, or somebody else has taken over
        path.unlink(missing_ok=True)
        until = time.monotonic() + seconds
        while not try_lock(handle) and time.monotonic() < until:
            time.sleep(0.1)


def _lock_path(root: Path, key: tuple[str, str]) -> Path:
    """The run's lock; neither its name nor its digest can lead out of the folder."""
    run, digest = (quote(part, safe=" ").replace(".", "%2E") for part in key)
    return locks(root) / f"{run[:150]}-{digest[:16]}.lock"


def _holder(path: Path) -> Holder:
    try:
        identity, _, role = path.read_text(encoding="utf-8").partition("\n")
    except (OSError, ValueError):
        return Holder(None, "")
    process = process_identity.parse(identity)
    role = role.strip() or ("follower" if identity else "")  # of an older version, which wrote a bare number
    return Holder(process if process is not None and process.is_alive() else None, role)


def _is_at(handle: TextIO, path: Path) -> bool:
    """Whether the open file is the one of this name."""
    try:
        there, own = path.stat(), os.fstat(handle.fileno())
    except OSError:
        return False
    return (there.st_dev, there.st_ino) == (own.st_dev, own.st_ino)


def locks(root: Path) -> Path:
    """The folder of the locks that keep two writers off one run."""
    return describe.home(root) / ".seqline" / "tracking"
