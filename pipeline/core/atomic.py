"""Outputs are complete or absent: written beside their place under a lock, renamed into it at the
end.

A rename can reach the disk long before the data that it publishes: after a power cut the name is
there, the file empty. So data are synced before their rename, and the folder that holds the name
after it."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.core.errors import name_file_in_errors
from pipeline.core.locks import file_lock


@contextmanager
def atomic_dir(out: Path) -> Iterator[Path]:
    """A fresh folder to fill; becomes `out` when the block ends well, and vanishes when it does
    not.

    A second process that wants the same `out` waits for the first: an orphan of a killed run cannot
    mix with its successor. A disk's refusal that names no file names `out`."""
    out.parent.mkdir(parents=True, exist_ok=True)
    beside = out.parent / f".{out.name}.partial"
    with file_lock(out.parent / f".{out.name}.lock"), name_file_in_errors(out):
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir()
        try:
            yield beside
            if out.exists():
                shutil.rmtree(out)
            sync_tree(beside)
            beside.rename(out)
            sync_folder(out.parent)
        finally:
            shutil.rmtree(beside, ignore_errors=True)


@contextmanager
def atomic_file(out: Path) -> Iterator[Path]:
    """Like `atomic_dir`, for a single file."""
    out.parent.mkdir(parents=True, exist_ok=True)
    beside = out.parent / f".{out.name}.partial"
    with file_lock(out.parent / f".{out.name}.lock"), name_file_in_errors(out):
        try:
            yield beside
            replace_file(beside, out)
        finally:
            beside.unlink(missing_ok=True)


def replace_file(beside: Path, out: Path) -> None:
    """Give the finished file `beside` the name `out`, so that `out` is complete at any moment, a
    power cut included."""
    sync_file(beside)
    os.replace(beside, out)
    sync_folder(out.parent)


def write_file(path: Path, content: bytes) -> None:
    """Replace the content of the file `path` in one step, for a file that no other process writes
    at the same time."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        beside.write_bytes(content)
        replace_file(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def sync_tree(path: Path) -> None:
    """Write a file, or all files of a folder and then the folders that name them, to the disk."""
    if not path.is_dir():
        sync_file(path)
        return

    for folder, _, names in os.walk(path, topdown=False):
        for name in names:
            file = Path(folder, name)
            if not file.is_symlink():
                sync_file(file)
        sync_folder(Path(folder))


def sync_file(path: Path) -> None:
    """Write the file's data from the system's memory to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Write the folder's names to the disk, where its file system supports that."""
    try:
        sync_file(path)
    except OSError as error:
        # A file system that cannot sync folders (EINVAL, ENOTSUP), or a folder that may be written
        # but not read (EACCES).
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EACCES):
            raise


def remove_folders(*paths: Path) -> None:
    """Remove each folder that stands where a file of our own is to be written."""
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
