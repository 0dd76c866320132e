"""Locks between processes, on files, by filelock; the system frees them when the process dies.

A lock's file may hold the identity of the process that holds it (`owned_lock`). It stays in place
when the lock is free: removing it would let two processes lock two files of the same name.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import filelock

from pipeline.core import process_identity
from pipeline.core.process_identity import ProcessIdentity

_ATTEMPTS = 3
_PAUSE_SECONDS = 0.01


class LockedElsewhere(Exception):
    """Another process holds the lock; `holder` is its identity, None if it is not known."""

    def __init__(self, holder: ProcessIdentity | None) -> None:
        super().__init__(f"process {holder.pid if holder else 'unknown'}")
        self.holder = holder


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold the lock on the file `path`; wait until it is free."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        filelock.lock_descriptor(handle.fileno())
        yield


def try_lock(handle: IO[Any]) -> bool:
    """Lock this open file until it is closed, without waiting; return whether it was free."""
    return filelock.lock_descriptor(handle.fileno(), blocking=False)


@contextmanager
def owned_lock(path: Path, wait: bool) -> Iterator[None]:
    """Hold the lock on the file `path` and write this process's identity into it.

    While another process holds it: wait, or raise LockedElsewhere.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as handle:
        if wait:
            filelock.lock_descriptor(handle.fileno())
        elif not try_lock(handle):
            raise LockedElsewhere(process_identity.read(path))
        process_identity.sign(handle)
        yield


def owner(path: Path) -> ProcessIdentity | None:
    """The identity of the process that holds the lock of `owned_lock`; None if nobody holds it.

    Whether the lock is held is what counts, and the system knows it. A process number alone may
    have been reused, or may count in another PID namespace, as a container's does.
    """
    return process_identity.read(path) if is_locked(path) else None


def is_locked(path: Path) -> bool:
    """Return whether some process holds the lock on this file.

    To find out, this takes the lock for a moment, and so may another process that asks the same:
    a lock that is busy is tried again.
    """
    for _ in range(_ATTEMPTS):
        try:
            with path.open("r+") as handle:
                if try_lock(handle):
                    return False
        except OSError:
            return False
        time.sleep(_PAUSE_SECONDS)
    return True
