"""Names of runs from users: a setting stands for its first run."""

from pathlib import Path
from typing import Any

from pipeline.core import config
from pipeline.core.errors import refuse


def blocks(root: Path) -> dict[str, dict[str, Any]]:
    """The section `runs` of params.yaml; UserError if it, or a run, is no section."""
    return config.blocks(root / "params.yaml", "runs")


def first_run(root: Path, name: str) -> str | None:
    """The run called `name`, or the first run of the setting called `name`; None if there is
    neither."""
    runs = blocks(root)
    if name in runs:
        return name
    return next((run for run, block in runs.items() if block.get("setting") == name), None)


def setting_names(root: Path) -> list[str]:
    """The settings that have runs, without those that a run is called like."""
    runs = blocks(root)
    return [name for name in _settings(runs) if name not in runs]


def run_of(root: Path, name: str, where: str) -> str:
    """As `first_run`; UserError for an unknown name, which was given as `where`."""
    run = first_run(root, name)
    if run is not None:
        return run
    runs = blocks(root)
    settings = _settings(runs)
    todo = config.nearest(name, [*settings, *runs])
    raise refuse(where, name, "a setting or a run, one of " + ", ".join(settings), todo)


def _settings(runs: dict[str, dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(str(block.get("setting")) for block in runs.values()))
