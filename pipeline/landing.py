"""Outputs are complete or absent: written beside their place under a lock, renamed into it at the end."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import naming


@contextmanager
def landing(out: Path) -> Iterator[Path]:
    """A fresh folder to fill; becomes `out` when the block ends well, and vanishes when it does not.

    A second process that wants the same `out` waits for the first: an orphan of a killed run cannot mix with its successor.
    A disk's refusal that names no file names `out`.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    beside = out.parent / f".{out.name}.partial"
    with exclusive(out.parent / f".{out.name}.lock"), naming(out):
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir()
        try:
            yield beside
            if out.exists():
                shutil.rmtree(out)
            beside.rename(out)
        finally:
            shutil.rmtree(beside, ignore_errors=True)


@contextmanager
def landing_file(out: Path) -> Iterator[Path]:
    """Like `landing`, for a single file."""
    out.parent.mkdir(parents=True, exist_ok=True)
    beside = out.parent / f".{out.name}.partial"
    with exclusive(out.parent / f".{out.name}.lock"), naming(out):
        try:
            yield beside
            os.replace(beside, out)
        finally:
            beside.unlink(missing_ok=True)


@contextmanager
def exclusive(lock: Path) -> Iterator[None]:
    """Hold an advisory lock on the file `lock`; the system frees it when the process dies, however it dies."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
