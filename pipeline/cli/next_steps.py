"""Commands to try next, with the names and texts of this project."""

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.core import params
from pipeline.report.standing import Standing
from pipeline.scoring import tasks

_BLANK = "___"
# Commands that answer a text, the one that shows most first.
_ANSWERING = ("translate", "classify", "generate")


def after_results(root: Path, standings: Sequence[Standing]) -> list[tuple[str, str]]:
    """Return commands, each with what it is for: ask the best model, change a number, look at the
    runs. The activation of the environment is the first one, where it is needed."""
    ordered = sorted(standings, key=_rank)
    answer = next(filter(None, (_answer(root, standing) for standing in ordered)), None)
    change = next(filter(None, (_change(standing) for standing in ordered)), None)
    steps = [
        (activation(root), "once in each terminal"),
        (answer, "ask the best model; try a text of your own"),
        (change, "change a number and train again; `dvc exp show` compares"),
        ("seqline ui", "curves and scores of all runs, in MLflow"),
    ]
    return [(command, why) for command, why in steps if command is not None]


def activation(root: Path) -> str | None:
    """Return the command that activates the project's environment, if this process runs in it and
    the user's shell does not, as under `make repro`."""
    here = root / ".venv"
    is_active = os.environ.get("VIRTUAL_ENV", "") == str(here)
    return "source .venv/bin/activate" if Path(sys.prefix) == here and not is_active else None


def _rank(standing: Standing) -> int:
    command = _command(standing)
    return len(_ANSWERING) if command is None else _ANSWERING.index(command)


def _command(standing: Standing) -> str | None:
    """Return the command that answers a text with a model of this task, if there is one."""
    command = tasks.interface(standing.first_run.task).command
    return command if command in _ANSWERING else None


def _answer(root: Path, standing: Standing) -> str | None:
    """Return a command that asks the best model the corpus's first sample."""
    command = _command(standing)
    samples = params.corpus(root / "params.yaml", standing.first_run.corpus).samples
    prompts = [sample.prompt for sample in samples if _BLANK not in sample.prompt]
    if command is None or not prompts:
        return None
    return f"seqline {command} {shlex.quote(prompts[0])} --run {standing.best.name}"


def _change(standing: Standing) -> str | None:
    """Return an experiment with half the learning rate of the best setting, if it has one."""
    run = standing.first_run
    rate = (run.optim or {}).get("learning_rate")
    if not isinstance(rate, float):
        return None
    half = f"{rate / 2:.12f}".rstrip("0")  # in full: YAML readers differ about 5e-05
    return f"dvc exp run -S settings.{run.setting}.optim.learning_rate={half}"
