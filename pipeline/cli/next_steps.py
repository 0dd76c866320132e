"""Commands to try next, with the names and texts of this project."""

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.core import params
from pipeline.dag import expected_time
from pipeline.flow import baseline
from pipeline.report.standing import Standing
from pipeline.runs.sample_text import sample_text
from pipeline.scoring import tasks

_UNKNOWN_SECONDS = 1e9  # of a training that has not run here
_OWN_TEXT = "a text of your own"
# Commands that answer a text, the one that shows most first.
_ANSWERING = ("translate", "classify", "generate")


def after_results(root: Path, standings: Sequence[Standing]) -> list[tuple[str, str]]:
    """Return commands, each with what it is for: ask the best model, change a number, look at the
    runs. The activation of the environment, and a commit of the results, come first where they are
    needed."""
    ordered = sorted(standings, key=_rank)
    answer = next(
        filter(None, (ask(root, each.first_run, each.best.name) for each in ordered)), None
    )
    seconds = expected_time.seconds(root)
    fastest = sorted(ordered, key=lambda standing: _training_seconds(standing, seconds))
    change = next(filter(None, (_change(standing) for standing in fastest)), None)
    steps = [
        (activation(root), "once in each terminal"),
        (
            baseline.commit_command(root),
            "keep these results: `dvc exp` compares with the last commit",
        ),
        (answer, _asking(answer)),
        (change, "change a number and train again; then `dvc metrics diff` and `seqline tidy`"),
        ("seqline ui", "curves and scores of all runs, in MLflow"),
    ]
    return [(command, why) for command, why in steps if command is not None]


def _asking(command: str | None) -> str:
    """Return what the command that asks a model is for."""
    translates = command is not None and command.startswith("seqline translate ")
    picture = "; `--heatmap FILE.png` draws its attention" if translates else ""
    return f"ask the best setting; try a text of your own{picture}"


def activation(root: Path) -> str | None:
    """Return the command that activates the project's environment, if this process runs in it and
    the user's shell does not, as under `make repro`."""
    here = root / ".venv"
    is_active = os.environ.get("VIRTUAL_ENV", "") == str(here)
    return "source .venv/bin/activate" if Path(sys.prefix) == here and not is_active else None


def ask(root: Path, run: params.Run, name: str) -> str | None:
    """Return a command that asks the run, or setting, `name` the corpus's first sample, or a text
    of one's own; None if no command asks a model of its task."""
    command = _command(run.task)
    if command is None:
        return None
    text = sample_text(root, run.task, run.corpus) or _OWN_TEXT
    return f"seqline {command} {shlex.quote(text)} --run {name}"


def _rank(standing: Standing) -> int:
    command = _command(standing.first_run.task)
    return len(_ANSWERING) if command is None else _ANSWERING.index(command)


def _command(task: str) -> str | None:
    """Return the command that answers a text with a model of this task, if there is one."""
    command = tasks.interface(task).command
    return command if command in _ANSWERING else None


def _training_seconds(standing: Standing, durations: Mapping[str, float]) -> float:
    """Return how long the training of the best setting's first run took here."""
    name = standing.ranking.settings[0].first.name
    return durations.get(f"train@{name}", _UNKNOWN_SECONDS)


def _change(standing: Standing) -> str | None:
    """Return an experiment with half the learning rate of the best setting, if it has one."""
    run = standing.first_run
    rate = (run.optim or {}).get("learning_rate")
    if not isinstance(rate, float):
        return None
    half = f"{rate / 2:.12f}".rstrip("0")  # in full: YAML readers differ about 5e-05
    # DVC prints a line for each stage that is up to date.
    quiet = "| grep -v skipping"
    return f"dvc exp run -S settings.{run.setting}.optim.learning_rate={half} {quiet}"
