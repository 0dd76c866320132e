"""`seqline prune`: remove outputs of runs that params.yaml no longer has, and unused state."""

import argparse
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pipeline.core import state_dir

HELP = "remove outputs of runs that params.yaml no longer has, and old logs"

UNUSED_DAYS = 30
_SHOWN = 20


def add(parser: argparse.ArgumentParser) -> None:
    """Add no arguments; say what is kept."""
    parser.description = (
        "Remove outputs of runs that params.yaml no longer has, which DVC's cache keeps, and logs "
        "and states that nothing used for a month."
    )


def run(root: Path, arguments: argparse.Namespace) -> None:
    """Remove, and list what was removed."""
    print_removed_outputs(root, remove_outputs(root))
    unused = remove_unused(root)
    if unused:
        print(f"removed {len(unused)} files and folders unused for {UNUSED_DAYS} days:")
        _print_paths(root, unused)


def print_removed_outputs(root: Path, removed: list[Path]) -> None:
    """Print the outputs that were removed."""
    if removed:
        print(
            f"removed {len(removed)} outputs of runs and corpora that params.yaml no longer has; "
            "DVC's cache keeps them:"
        )
        _print_paths(root, removed)


def _print_paths(root: Path, paths: list[Path]) -> None:
    for path in paths[:_SHOWN]:
        print(f"  {path.relative_to(root)}")
    if len(paths) > _SHOWN:
        print(f"  and {len(paths) - _SHOWN} more")


def remove_outputs(root: Path) -> list[Path]:
    """Remove outputs of stages that the DAG no longer has: directories that stages depend on stay
    clean."""
    from pipeline.dag import paths

    return _removed(paths.abandoned_outputs(root))


def remove_unused(root: Path) -> list[Path]:
    """Remove logs, weights laid out for serving, states of interrupted trainings, and
    predictions of comparisons in which nothing has changed for `UNUSED_DAYS` days."""
    since = time.time() - UNUSED_DAYS * 86400
    return _removed(
        [
            path
            for folder in (root / folder for folder in state_dir.PRUNED)
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
