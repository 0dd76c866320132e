"""Decision between two trained runs of params.yaml, without a promotion."""

from pathlib import Path

from pipeline.core import config, state_dir
from pipeline.core.errors import refuse
from pipeline.dag import paths
from pipeline.promotion import Contender, Decision, challenge
from pipeline.promotion.settings import Settings, load


def compare(root: Path, champion: str, challenger: str) -> Decision:
    """The gate's decision on two runs of params.yaml, of one task and corpus, as their outputs are
    on disk."""
    first, second = (contender(root, name) for name in (champion, challenger))
    champion_run, challenger_run = first.block(), second.block()
    if (champion_run.task, champion_run.corpus) != (challenger_run.task, challenger_run.corpus):
        raise refuse(
            "RUN",
            f"{challenger}, of {challenger_run.task} on {challenger_run.corpus}",
            f"a run of {champion_run.task} on {champion_run.corpus}, as {champion} is",
        )
    tokens = paths.option_path(root, "evaluate", champion, _block(root, champion), "tokens")
    if not tokens.exists():
        raise refuse(
            "RUN",
            f"no {tokens.relative_to(root)}",
            "the corpus's test set",
            "Run `dvc repro`, or `dvc pull`.",
        )
    settings = load(root / "flow.yaml")
    return challenge(
        root,
        first,
        second,
        {"the test set": tokens},
        settings,
        root / state_dir.COMPARISONS,
        baseline=baseline(root, settings, challenger_run.task, challenger_run.corpus),
    )


def baseline(root: Path, settings: Settings, task: str, corpus: str) -> Contender | None:
    """The run that a champion of the task on the corpus must beat; None if the settings have none.

    UserError if it is unknown, of another task or corpus, or not trained yet."""
    name = settings.beats_baseline.get(f"{task}-{corpus}")
    if name is None:
        return None
    _check_baseline(root, name, task, corpus)
    return contender(root, name)


def check_baselines(root: Path, settings: Settings) -> None:
    """Raise UserError for a baseline that is no run of its task and corpus.

    Models of which params.yaml has no run are skipped: they belong to other presets."""
    if not settings.beats_baseline:
        return
    runs = config.blocks(root / "params.yaml", "runs")
    models = {f"{run['task']}-{run['corpus']}": run for run in runs.values()}
    for model, name in settings.beats_baseline.items():
        if name is not None and model in models:
            _check_baseline(root, name, models[model]["task"], models[model]["corpus"])


def _check_baseline(root: Path, name: str, task: str, corpus: str) -> None:
    where = f"gate.beats_baseline.{task}-{corpus}"
    block = _block(root, name, where)
    if (block["task"], block["corpus"]) != (task, corpus):
        raise refuse(
            where,
            f"{name}, a run of {block['task']} on {block['corpus']}",
            f"a run of {task} on {corpus}",
        )


def contender(root: Path, name: str) -> Contender:
    """The run `name` of params.yaml as DVC's outputs have it; UserError if it is unknown or not
    trained yet."""
    block = _block(root, name)
    model, vocab = (
        paths.option_path(root, "predict", name, block, option) for option in ("model", "vocab")
    )
    for folder in (model, vocab):
        if not folder.exists():
            got, todo = f"no {folder.relative_to(root)}", "Run `dvc repro`, or `dvc pull`."
            raise refuse(f"run {name}", got, "a trained run", todo)
    return Contender(label=name, params=root / "params.yaml", run=name, model=model, vocab=vocab)


def _block(root: Path, name: str, where: str = "RUN") -> dict[str, object]:
    runs = config.blocks(root / "params.yaml", "runs")
    if name not in runs:
        raise refuse(where, name, "one of " + ", ".join(runs))
    return runs[name]
