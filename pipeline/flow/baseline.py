"""The baseline of experiments: the commit with which `dvc exp` and `dvc metrics diff` compare."""

import os
import shlex
from contextlib import suppress
from pathlib import Path

from pipeline.core import config, git
from pipeline.core.errors import UserError
from pipeline.flow import publish

_PARAMS = "params.yaml"
_LOCK = "dvc.lock"
_FAMILIES = "pipeline/models"


def note(root: Path) -> str:
    """Return lines about tracked outputs that differ from the last commit; "" if none do, and if
    the commit has no results.

    They differ after a change of settings, and on a processor that gives other bits."""
    changed = _changed_outputs(root)
    if not changed:
        return ""
    files = "1 output has" if len(changed) == 1 else f"{len(changed)} outputs have"
    return (
        f"{files} changed since the last commit, with which `dvc exp` and `dvc metrics diff` "
        "compare.\n"
        f"To compare with these results: {_commit(root, changed)}"
    )


def commit_command(root: Path) -> str | None:
    """Return the command that commits the results; None if they are those of the last commit."""
    changed = _changed_outputs(root)
    return _commit(root, changed) if changed else None


def _commit(root: Path, changed: list[str]) -> str:
    # The settings belong to the results, and so do families and corpora of the user's own.
    sources = _changed(root, [_PARAMS, _FAMILIES, *_corpora(root)])
    tops = dict.fromkeys([*sources, *(Path(path).parts[0] for path in changed)])
    return f"git add {' '.join(map(shlex.quote, tops))} && git commit -m Baseline"


def _corpora(root: Path) -> list[str]:
    """Return the files and folders of the project that corpora are read from."""
    paths: list[str] = []
    with suppress(UserError):
        for block in config.section(root / _PARAMS, "corpora").values():
            source = block.get("source") if isinstance(block, dict) else None
            path = source.get("path") if isinstance(source, dict) else None
            if isinstance(path, str) and (root / path).resolve().is_relative_to(root.resolve()):
                paths.append(os.path.normpath(path))
    return [path for path in paths if not os.path.isabs(path)]


def _changed_outputs(root: Path) -> list[str]:
    """Return the tracked outputs that differ from the last commit; none if it has no results."""
    if git.output(root, "cat-file", "-e", f"HEAD:./{_LOCK}") is None:
        return []
    try:
        return _changed(root, publish.tracked_outputs(root))
    except publish.CommandFailed:  # git took too long
        return []


def _changed(root: Path, paths: list[str]) -> list[str]:
    """Return those of the paths that differ from the last commit; none without one."""
    names = git.text_output(root, "status", "--porcelain", "-z", "--no-renames", "--", *paths)
    changed = [line[3:] for line in names.split("\0") if line]
    return [path for path in paths if any(Path(name).is_relative_to(path) for name in changed)]
