"""The trained run that a command answers with: by its name, a champion, or the best that fits."""

import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.core.errors import UserError, refuse
from pipeline.dag.paths import RunPaths
from pipeline.promotion import select
from pipeline.runs import names, trained
from pipeline.runs.trained import NamedRun
from pipeline.scoring import tasks
from pipeline.tracking import describe
from pipeline.tracking.versions import CHAMPION, Version, model_name


def choose(root: Path, name: str | None, command: str) -> NamedRun:
    """The trained run or setting `name`, or the champion `MODEL@champion`.

    `@champion` is that of the only corpus with models for the command. Without a name it is this
    champion or, if there is none, the best run. A setting answers by its first run. A line on
    stderr names the run, unless `name` does. UserError if there is none, or if there are several
    corpora to choose from."""
    if name is None:
        return _default(root, command)
    if "@" in name:
        return _with_alias(root, name, command)
    run = names.run_of(root, name, "--run")
    chosen = trained.by_name(root, run, "--run")
    if run != name:
        blocks = names.blocks(root).values()
        corpora = [block.get("corpus") for block in blocks if block.get("setting") == name]
        seeds = corpora.count(chosen.corpus)
        which = "only seed" if seeds == 1 else f"first of {seeds} seeds"
        print(f"seqline: answers by {run}, the {which} of {name}", file=sys.stderr)
    return chosen


def version_to_serve(root: Path, what: str) -> str:
    """`what`, a registered model with an alias, a version or nothing after its name. A model that
    has no champion yet gets the version of its best run, and a line on stderr says so."""
    from pipeline.tracking import registry  # imports mlflow: a second

    if "@" in what or "/" in what or registry.champion(root, what) is not None:
        return what
    runs = [
        name
        for name, block in names.blocks(root).items()
        if model_name(block["task"], block["corpus"]) == what
    ]
    trained_runs = trained.trained_names(root, runs)
    if not trained_runs:
        return what
    version = registry.version_of_run(root, best_run(root, trained_runs))
    print(
        f"seqline: {what} has no champion yet: serving its best run on validation data, "
        f"{version.run}. `seqline promote {version.run}` makes it champion.",
        file=sys.stderr,
    )
    return str(version)


def _default(root: Path, command: str) -> NamedRun:
    model, runs = _only_model(root, command, "none")
    champion = _champion(root, model)
    if champion is not None:
        why = f"the champion of {model} (version {champion.version})"
        print(f"seqline: answers by {champion.run}, {why}", file=sys.stderr)
        return trained.of_version(root, champion)

    best = trained.by_name(root, best_run(root, runs), "--run")
    why = f"{how_chosen(root, best.task, runs, model)}; there is no champion yet"
    print(f"seqline: answers by {best.name}, {why}", file=sys.stderr)
    return best


def _with_alias(root: Path, name: str, command: str) -> NamedRun:
    from pipeline.tracking import registry  # imports mlflow: a second

    model, _, alias = name.partition("@")
    model = model or _only_model(root, command, name)[0]
    version = registry.version_with_alias(root, model, alias or CHAMPION)
    return trained.of_version(root, version)


def _champion(root: Path, model: str) -> Version | None:
    """The champion, if there is a store that can be read; a line on stderr says if it cannot."""
    if not describe.may_exist(root):
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
    for name, block in names.blocks(root).items():
        if tasks.interface(block["task"]).command == command:
            models.setdefault(model_name(block["task"], block["corpus"]), []).append(name)
    candidates = {
        model: trained_runs
        for model, runs in models.items()
        if (trained_runs := trained.trained_names(root, runs))
    }

    if not candidates:
        expected = f"a trained run that `seqline {command}` can use, and there is none"
        raise refuse("--run", got, expected, "Run `make repro`, or `dvc repro`.")
    if len(candidates) > 1:
        choices = (f"{best_run(root, runs)} ({model})" for model, runs in candidates.items())
        raise refuse("--run", got, f"one of {', '.join(choices)}, as several corpora fit")
    return next(iter(candidates.items()))


def best_run(root: Path, runs: Sequence[str]) -> str:
    """The best of trained runs of one task and corpus on validation data; the first one if none is
    evaluated."""
    evaluated = _evaluated(root, runs)
    return select.best_run(root, evaluated) if evaluated else runs[0]


def how_chosen(root: Path, task: str, runs: Sequence[str], group: str) -> str:
    """Say in words how `best_run` chose among the runs of `group`."""
    has_validation = tasks.promotion(task).validation is not None and _evaluated(root, runs)
    return f"the best of {group} on validation data" if has_validation else f"the first of {group}"


def _evaluated(root: Path, runs: Sequence[str]) -> list[str]:
    paths = RunPaths(root)
    return [run for run in runs if paths.option("evaluate", run, "metrics").exists()]
