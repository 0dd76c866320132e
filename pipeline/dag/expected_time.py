"""Durations of stages in earlier runs on this machine, and their priority: critical path first."""

import json
from collections.abc import Mapping
from pathlib import Path

from pipeline.core import state_dir
from pipeline.core.atomic import atomic_file
from pipeline.dag.graph import Plan, kind

# seconds of a stage that has never run here, by its kind
_DEFAULT_SECONDS = {"train": 30.0, "predict": 6.0, "evaluate": 5.0, "report": 8.0}
_OTHER_SECONDS = 3.0
# of the mean training's duration, for the kinds that all trainings precede (the default DAG's 56
# runs)
SHARES_OF_TRAINING = {"predict": 0.15, "evaluate": 0.1}


def seconds(root: Path) -> dict[str, float]:
    """Return the duration of each stage when it last ran here, in seconds; {} if the file is absent
    or damaged."""
    try:
        content = json.loads((root / state_dir.STAGE_SECONDS).read_text(encoding="utf-8"))
        return {str(address): float(duration) for address, duration in content.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def record(root: Path, durations: Mapping[str, float]) -> None:
    """Save the durations of stages that have run, in seconds."""
    if durations:
        with atomic_file(root / state_dir.STAGE_SECONDS) as partial:
            content = seconds(root) | dict(durations)
            partial.write_text(json.dumps(content, indent=0), encoding="utf-8")


def default_seconds(address: str) -> float:
    """Return the assumed duration of a stage that has never run here."""
    return _DEFAULT_SECONDS.get(kind(address), _OTHER_SECONDS)


def priorities(plan: Plan, durations: Mapping[str, float]) -> dict[str, float]:
    """Return, by stage, the length of the longest path from its start to the end of the DAG, in
    seconds."""
    lengths = dict.fromkeys(plan.needs, 0.0)
    # From the end of the DAG: in the plan a stage comes after the stages that it needs.
    for address in reversed(plan.needs):
        seconds = durations.get(address, default_seconds(address))
        lengths[address] += 0.0 if address in plan.fresh else seconds
        for need in plan.needs[address]:
            lengths[need] = max(lengths[need], lengths[address])  # the path behind the need
    return lengths
