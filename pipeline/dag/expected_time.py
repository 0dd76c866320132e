"""Durations of stages in earlier runs on this machine, and their priority: critical path first."""

import json
from collections.abc import Mapping
from pathlib import Path

from pipeline.core import state_dir
from pipeline.core.atomic import atomic_file
from pipeline.dag.graph import Plan, kind

# seconds, before anything is known
_GUESSES = {"train": 30.0, "predict": 6.0, "evaluate": 5.0, "report": 8.0}
_OTHERS = 3.0


def _path(root: Path) -> Path:
    return root / state_dir.STAGE_SECONDS


def seconds(root: Path) -> dict[str, float]:
    """Duration of each stage when it last ran here, in seconds."""
    try:
        found = json.loads(_path(root).read_text(encoding="utf-8"))
        return {str(address): float(took) for address, took in found.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def record(root: Path, took: Mapping[str, float]) -> None:
    """Remember for the next time; stages that are no more are forgotten with their file."""
    if took:
        with atomic_file(_path(root)) as beside:
            beside.write_text(json.dumps(seconds(root) | dict(took), indent=0), encoding="utf-8")


def priorities(plan: Plan, known: Mapping[str, float]) -> dict[str, float]:
    """By stage, the seconds that it and the longest line of stages behind it are expected to
    take."""
    dependents, left = plan.dependents(), dict[str, float]()
    for address in reversed(list(plan.needs)):  # a stage comes after what it needs
        own = (
            0.0
            if address in plan.fresh
            else known.get(address, _GUESSES.get(kind(address), _OTHERS))
        )
        left[address] = own + max((left[other] for other in dependents[address]), default=0.0)
    return left
