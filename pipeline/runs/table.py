"""The runs of params.yaml: what is trained, with which score, and which one is champion."""

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.core import params
from pipeline.core.errors import UserError
from pipeline.dag.paths import RunPaths
from pipeline.report.results import ranking_split
from pipeline.runs import names
from pipeline.scoring import metrics_file, tasks
from pipeline.tracking import describe, run_scores
from pipeline.tracking.versions import Version, model_name


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRow:
    """A run of params.yaml. `score` is the one that ranks, called `metric`, on the `split`; None if
    the run is not evaluated; `decimals` are shown. `champion`: the number of its version that is
    champion, or None."""

    run: str
    setting: str
    family: str
    task: str
    corpus: str
    seed: int
    trained: bool
    score: float | None
    metric: str
    split: str
    higher_is_better: bool
    decimals: int
    champion: int | None


def rows(root: Path, champions: Mapping[str, Version] | None = None) -> list[RunRow]:
    """All runs, in the order of params.yaml.

    `champions`: those that `present_champions` returns; without them no run is shown as one."""
    file = root / "params.yaml"
    split = ranking_split(params.evaluation(file))
    paths = RunPaths(root)
    return [_row(file, name, paths, split, champions or {}) for name in names.blocks(root)]


def present_champions(root: Path) -> dict[str, Version]:
    """The champion of each registered model, if there is a store that can be read; a line on stderr
    says if it cannot."""
    if not describe.may_exist(root):
        return {}
    from pipeline.tracking import registry  # imports mlflow: a second

    try:
        periods = registry.champions(root)
    except UserError as error:
        print(f"seqline: champions unknown: {error}", file=sys.stderr)
        return {}
    return {name: history[0].version for name, history in periods.items() if history}


def _row(
    file: Path, name: str, paths: RunPaths, split: str, champions: Mapping[str, Version]
) -> RunRow:
    run = params.run(file, name)
    scoring = tasks.load_scoring(file, name, run)
    metrics_path = paths.option("evaluate", name, "metrics")
    metrics = metrics_file.read(metrics_path) if metrics_path.exists() else {}
    # Where references are too short for the task's own score, another one ranks.
    key = run_scores.main_key(metrics, scoring)
    score = run_scores.score_of(metrics, split, key)

    champion = champions.get(model_name(run.task, run.corpus))
    return RunRow(
        run=name,
        setting=run.setting,
        family=run.family,
        task=run.task,
        corpus=run.corpus,
        seed=run.seed,
        trained=paths.option("train", name, "out").exists(),
        score=score if score is not None and math.isfinite(score) else None,
        metric=run_scores.main_title(key, scoring),
        split=split,
        higher_is_better=scoring.higher_is_better,
        decimals=scoring.decimals,
        champion=champion.version if champion is not None and champion.run == name else None,
    )
