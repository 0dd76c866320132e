"""The trained run that a command answers with: by its name, a champion, or the best that fits."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.cli.run_names import run_of
from pipeline.cli.trained_run import run_folders
from pipeline.core import config, params
from pipeline.core.errors import UserError, refuse
from pipeline.dag import cache
from pipeline.dag.paths import RunPaths
from pipeline.predictions import TrainedRun
from pipeline.scoring import tasks
from pipeline.tracking import describe
from pipeline.tracking.versions import Version, model_name

_CHAMPION = "champion"


@dataclass(frozen=True, slots=True)
class ChosenRun:
    """A trained run: its name, its task, and its files."""

    name: str
    task: str
    files: TrainedRun


def choose(root: Path, name: str | None, command: str) -> ChosenRun:
    """The trained run or setting `name`, or the champion `MODEL@champion`.

    `@champion` is that of the only corpus with models for the command. Without a name it is this
    champion or, if there is none, the best run; a line on stderr names it. UserError if there is
    none, or if there are several corpora to choose from."""
    if name is None:
        return _default(root, command)
    if "@" in name:
        return _with_alias(root, name, command)
    return _by_name(root, run_of(root, name, "--run"))


def version_to_serve(root: Path, what: str) -> str:
    """`what`, a registered model with an alias, a version or nothing after its name. A model that
    has no champion yet gets the version of its best run, and a line on stderr says so."""
    from pipeline.tracking import registry  # imports mlflow: a second

    if "@" in what or "/" in what or registry.champion(root, what) is not None:
        return what
    runs = [
        name
        for name, block in _runs(root).items()
        if model_name(block["task"], block["corpus"]) == what
    ]
    trained = _trained(root, runs)
    if not trained:
        return what
    version = registry.version_of_run(root, best_run(root, trained))
    print(
        f"seqline: {what} has no champion yet: serving its best run on validation data, "
        f"{version.run}. `seqline promote {version.run}` makes it champion.",
        file=sys.stderr,
    )
    return str(version)


def _by_name(root: Path, run: str) -> ChosenRun:
    model, vocab, search = run_folders(root, run)
    files = TrainedRun(model, vocab, search, _device(root))
    return ChosenRun(run, params.run(root / "params.yaml", run).task, files)


def _default(root: Path, command: str) -> ChosenRun:
    model, runs = _only_model(root, command, "none")
    champion = _champion(root, model)
    if champion is not None:
        why = f"the champion of {model} (version {champion.version})"
        print(f"seqline: answers by {champion.run}, {why}", file=sys.stderr)
        return _of_version(root, champion)

    best = best_run(root, runs)
    chosen = _by_name(root, best)
    has_validation = tasks.promotion(chosen.task).validation is not None
    rank = f"the best of {model} on validation data" if has_validation else f"the first of {model}"
    why = f"{rank}; there is no champion yet"
    print(f"seqline: answers by {best}, {why}", file=sys.stderr)
    return chosen


def _with_alias(root: Path, name: str, command: str) -> ChosenRun:
    from pipeline.tracking import registry  # imports mlflow: a second

    model, _, alias = name.partition("@")
    model = model or _only_model(root, command, name)[0]
    version = registry.version_with_alias(root, model, alias or _CHAMPION)
    return _of_version(root, version)


def _of_version(root: Path, version: Version) -> ChosenRun:
    """The run of a version with its own weights, whatever was trained since."""
    model, vocab = (cache.served_folder(root, version.md5(kind)) for kind in ("model", "vocab"))
    files = TrainedRun(model, vocab, version.block.get("search"), _device(root))
    return ChosenRun(version.run, version.task, files)


def _champion(root: Path, model: str) -> Version | None:
    """The champion, if there is a store that can be read; a line on stderr says if it cannot."""
    database = describe.database(root)
    if database is not None and not database.exists():
        return None
    from pipeline.tracking import registry  # imports mlflow: a second

    try:
        return registry.champion(root, model)
    except UserError as error:
        print(f"seqline: champion unknown: {error}", file=sys.stderr)
        return None


def _only_model(root: Path, command: str, got: str) -> tuple[str, list[str]]:
    """The only task and corpus with trained runs for the command, and these runs."""
    models: dict[str, list[str]] = {}
    for name, block in _runs(root).items():
        if tasks.interface(block["task"]).command == command:
            models.setdefault(model_name(block["task"], block["corpus"]), []).append(name)
    trained = {model: names for model, runs in models.items() if (names := _trained(root, runs))}

    if not trained:
        expected = f"a trained run that `seqline {command}` can use, and there is none"
        raise refuse("--run", got, expected, "Run `make repro`, or `dvc repro`.")
    if len(trained) > 1:
        choices = (f"{best_run(root, runs)} ({model})" for model, runs in trained.items())
        raise refuse("--run", got, f"one of {', '.join(choices)}, as several corpora fit")
    return next(iter(trained.items()))


def best_run(root: Path, runs: Sequence[str]) -> str:
    """The best of trained runs of one task and corpus on validation data; the first one if none is
    evaluated."""
    from pipeline.promotion import select

    paths = RunPaths(root)
    files = {run: paths.option("evaluate", run, "metrics") for run in runs}
    evaluated = [run for run, file in files.items() if file.exists()]
    if not evaluated:
        return runs[0]
    return select.select_challenger(select.load_metrics(files[runs[0]].parent, evaluated))


def _trained(root: Path, runs: Sequence[str]) -> list[str]:
    paths = RunPaths(root)
    return [run for run in runs if paths.option("train", run, "out").exists()]


def _runs(root: Path) -> dict[str, Any]:
    runs: dict[str, Any] = config.section(root / "params.yaml", "runs")
    return runs


def _device(root: Path) -> str:
    return params.compute(root / "params.yaml").device
