"""Atomic outputs, complete or absent: written next to their place under a lock, then renamed.

A rename can reach the disk long before the data that it publishes: after a power cut the name is
there, but the file is empty. So data are synced before their rename, and the folder that holds the
name after it."""

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
    """Yield an empty folder, which becomes `out` at the end of the block, and is removed if the
    block raises.

    A second process that writes the same `out` waits for the first: an orphan of a killed run
    cannot mix with its successor. OSErrors that name no file name `out`."""
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.parent / f".{out.name}.partial"

    with file_lock(out.parent / f".{out.name}.lock"), name_file_in_errors(out):
        # What a killed process left.
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        try:
            yield partial
            if out.exists():
                shutil.rmtree(out)
            sync_tree(partial)
            partial.rename(out)
            sync_folder(out.parent)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def atomic_file(out: Path) -> Iterator[Path]:
    """Yield the path of a file to write, which becomes `out`; like `atomic_dir`."""
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.parent / f".{out.name}.partial"
    with file_lock(out.parent / f".{out.name}.lock"), name_file_in_errors(out):
        try:
            yield partial
            replace_file(partial, out)
        finally:
            partial.unlink(missing_ok=True)


def replace_file(partial: Path, out: Path, sync: bool = True) -> None:
    """Rename the finished file `partial` to `out`, which is complete at any moment, also after a
    power cut.

    `sync=False` is faster. Then a power cut may leave an empty `out`, whose reader must accept
    that."""
    if sync:
        sync_file(partial)
    os.replace(partial, out)
    if sync:
        sync_folder(out.parent)


def write_file(path: Path, content: bytes, sync: bool = True) -> None:
    """Replace the content of the file `path` in one step, for a file that no other process writes
    at the same time. `sync` as in `replace_file`."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(content)
        replace_file(partial, path, sync)
    finally:
        partial.unlink(missing_ok=True)


def sync_tree(path: Path) -> None:
    """Write a file, or all files of a folder and then the folders that name them, to the disk."""
    if not path.is_dir():
        sync_file(path)
        return

    # Bottom up: files first, then the folder with their names, then its parent.
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
    """Remove folders at paths where files will be written; files and links stay."""
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
