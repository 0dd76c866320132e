"""Removal of outputs of stages that are gone, and of unused files in `.seqline/`."""

import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pipeline.core import state_dir
from pipeline.dag import paths

UNUSED_DAYS = 30


def remove_outputs(root: Path) -> list[Path]:
    """Remove outputs of stages that the DAG no longer has: directories that stages depend on stay
    clean."""
    return _removed(paths.abandoned(root))


def remove_unused(root: Path) -> list[Path]:
    """Remove logs, weights laid out for serving, states of trainings that were broken off, and
    answers of comparisons in which nothing has changed for `UNUSED_DAYS` days."""
    since = time.time() - UNUSED_DAYS * 86400
    folders = (root / folder for folder in state_dir.PRUNED)
    return _removed(
        [
            path
            for folder in folders
            for path in sorted(folder.glob("*"))
            if max(_changes(path), default=since) < since
        ]
    )


def _changes(path: Path) -> Iterator[float]:
    """Times of the last change of the folder and of all in it; files that vanish meanwhile are
    skipped."""
    for each in (path, *path.rglob("*")):
        with suppress(FileNotFoundError):
            yield each.lstat().st_mtime


def _removed(paths: list[Path]) -> list[Path]:
    for path in paths:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    return paths
