"""The runs of params.yaml as a table: a line for each setting, the best one first."""

import math
from collections.abc import Sequence
from statistics import mean

from pipeline.cli.champion_table import aligned
from pipeline.report.cells import mean_of
from pipeline.runs.table import RunRow

_HEADER = ("setting", "family", "seeds", "score", "")
_NONE = "–"


def text(rows: Sequence[RunRow]) -> str:
    """A table of the settings of each task and corpus, the best setting first."""
    groups: dict[tuple[str, str], list[RunRow]] = {}
    for row in rows:
        groups.setdefault((row.task, row.corpus), []).append(row)
    return "\n\n".join(_group(group) for group in groups.values())


def best(rows: Sequence[RunRow]) -> str:
    """The run with the best score, of those that have one; of several tasks, on the first."""
    first = next(row for row in rows if row.score is not None)
    alike = [row for row in rows if (row.task, row.corpus) == (first.task, first.corpus)]
    return min(alike, key=lambda row: _rank([row], -1 if first.higher_is_better else 1)).run


def _group(rows: Sequence[RunRow]) -> str:
    first = next((row for row in rows if row.score is not None), rows[0])
    by_setting: dict[str, list[RunRow]] = {}
    for row in rows:
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
