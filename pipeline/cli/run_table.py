"""The runs of params.yaml: what is trained, with which score, and which one is champion."""

import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from pipeline.cli.champion_table import aligned
from pipeline.core import config, params
from pipeline.core.errors import UserError
from pipeline.dag.paths import RunPaths
from pipeline.report.cells import mean_of
from pipeline.report.results import ranking_split
from pipeline.scoring import metrics_file, tasks
from pipeline.tracking import describe
from pipeline.tracking.versions import Version, model_name

_HEADER = ("setting", "family", "seeds", "score", "")
_NONE = "–"


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


def rows(root: Path) -> list[RunRow]:
    """All runs, in the order of params.yaml."""
    file = root / "params.yaml"
    split = ranking_split(params.evaluation(file))
    paths = RunPaths(root)
    champions = _champions(root)
    return [_row(file, name, paths, split, champions) for name in config.section(file, "runs")]


def json_rows(found: Sequence[RunRow]) -> list[dict[str, Any]]:
    """The rows for scripts."""
    return [asdict(row) for row in found]


def text(found: Sequence[RunRow]) -> str:
    """A table of the settings of each task and corpus, the best setting first."""
    groups: dict[tuple[str, str], list[RunRow]] = {}
    for row in found:
        groups.setdefault((row.task, row.corpus), []).append(row)
    return "\n\n".join(_group(group) for group in groups.values())


def _row(
    file: Path, name: str, paths: RunPaths, split: str, champions: dict[str, Version]
) -> RunRow:
    run = params.run(file, name)
    scoring = tasks.load_scoring(file, name, run)
    metrics_path = paths.option("evaluate", name, "metrics")
    metrics = metrics_file.read(metrics_path) if metrics_path.exists() else {}

    # Where references are too short for the task's own score, another one ranks.
    value: Any = metrics
    for key in (split, *str(metrics.get("ranked_by", scoring.main)).split("."), "score"):
        value = value.get(key) if isinstance(value, dict) else None
    is_number = isinstance(value, int | float) and math.isfinite(value)

    champion = champions.get(model_name(run.task, run.corpus))
    return RunRow(
        run=name,
        setting=run.setting,
        family=run.family,
        task=run.task,
        corpus=run.corpus,
        seed=run.seed,
        trained=paths.option("train", name, "out").exists(),
        score=float(value) if is_number else None,
        metric=scoring.main_title,
        split=split,
        higher_is_better=scoring.higher_is_better,
        decimals=scoring.decimals,
        champion=champion.version if champion is not None and champion.run == name else None,
    )


def _champions(root: Path) -> dict[str, Version]:
    """The champion of each registered model, if there is a store that can be read."""
    database = describe.database(root)
    if database is not None and not database.exists():
        return {}
    from pipeline.tracking import registry  # imports mlflow: a second

    try:
        periods = registry.champions(root)
    except UserError as error:
        print(f"seqline: champions unknown: {error}", file=sys.stderr)
        return {}
    return {name: found[0].version for name, found in periods.items() if found}


def _group(found: Sequence[RunRow]) -> str:
    first = found[0]
    by_setting: dict[str, list[RunRow]] = {}
    for row in found:
        by_setting.setdefault(row.setting, []).append(row)

    sign = -1 if first.higher_is_better else 1
    ordered = sorted(by_setting.values(), key=lambda runs: _rank(runs, sign))
    better = "higher" if first.higher_is_better else "lower"
    title = f"{first.task} on {first.corpus}: {first.metric}, {first.split}, {better} is better"
    return f"{title}\n{aligned([_HEADER, *map(_cells, ordered)])}"


def _rank(runs: Sequence[RunRow], sign: int) -> float:
    scores = _scores(runs)
    return sign * mean(scores) if scores else math.inf


def _scores(runs: Sequence[RunRow]) -> list[float]:
    return [row.score for row in runs if row.score is not None]


def _cells(runs: Sequence[RunRow]) -> tuple[str, ...]:
    first = runs[0]
    trained = [str(row.seed) for row in runs if row.trained]
    untrained = [str(row.seed) for row in runs if not row.trained]
    scores = _scores(runs)
    notes = [f"champion: {row.run} (version {row.champion})" for row in runs if row.champion]
    if untrained:
        notes.append("not trained" if not trained else f"not trained: {' '.join(untrained)}")
    return (
        first.setting,
        first.family,
        " ".join(trained) or _NONE,
        mean_of(scores, f"{{:.{first.decimals}f}}") if scores else _NONE,
        ", ".join(notes),
    )
