"""`seqline` without a command: the state of the project, and what to do first."""

from collections.abc import Iterator
from pathlib import Path

from pipeline.core import config, state_dir
from pipeline.core.errors import UserError
from pipeline.core.locks import owner
from pipeline.dag.paths import RunPaths
from pipeline.flow import journal
from pipeline.flow import progress as flow_progress

OUTSIDE = (
    "seqline trains and compares sequence models. This folder is in no project of it.\n\n"
    "  git clone REPOSITORY seqline && cd seqline && make repro\n\n"
    "`seqline --help` lists the commands."
)
_DEMO = ("seqline demo", "ask the trained models, side by side")


def overview(root: Path) -> str:
    """Describe the project and its next step. Outputs are looked for, and not read."""
    lines = [f"{subject:10}{text}" for subject, text in _lines(root)]
    return "\n".join(lines)


def _lines(root: Path) -> Iterator[tuple[str, str]]:
    yield "project", str(root)
    try:
        runs = list(config.section(root / "params.yaml", "runs"))
        paths = RunPaths(root)
        trained = [run for run in runs if paths.option("train", run, "out").is_dir()]
        scored = [run for run in runs if paths.option("evaluate", run, "metrics").is_file()]
        page = paths.shared("report", "page")
    except UserError as error:
        yield "problem", str(error)
        yield "next", "seqline check      # after the correction: checks all of params.yaml"
        return

    yield "runs", f"{len(runs)} in params.yaml, {len(trained)} trained, {len(scored)} scored"
    flow = owner(root / state_dir.FLOW_LOCK)
    if flow is not None:
        progress = flow_progress.read(root)
        stages = "" if progress is None else f": {progress}"
        yield "running", f"a flow, process {flow.pid}{stages}"
    elif (failure := _failure(root)) is not None:
        yield "last run", failure
    if page.is_file():
        yield "report", str(page.relative_to(root))
    steps = _next(runs, trained, scored, flow is not None)
    for number, (command, why) in enumerate(steps):
        yield "" if number else "next", f"{command:28}  # {why}"
    yield "help", "seqline --help; seqline COMMAND --help has examples"


def _failure(root: Path) -> str | None:
    """Return why the last flow failed, in a line; None if it did not."""
    flows = journal.read(root)
    if not flows or flows[-1].state != "failed":
        return None
    lines = flows[-1].summary.splitlines()
    causes = [line for line in lines if line.startswith("FAILED ")]
    return (causes or [f"failed: {lines[0]}" if lines else "failed"])[0]


def _next(
    runs: list[str], trained: list[str], scored: list[str], running: bool
) -> list[tuple[str, str]]:
    if running:
        return [("seqline status", "what runs, and how far it is")]
    if len(scored) < len(runs):
        todo = "train and compare all models" if not trained else "train and score what is missing"
        steps = [("seqline check", "is params.yaml in order?"), ("seqline run", todo)]
        return steps + ([_DEMO] if trained else [])
    return [
        ("seqline results", "what is best, and what to try"),
        _DEMO,
        ("seqline run", "run what has changed"),
        ("seqline doctor", "if something does not work"),
    ]
