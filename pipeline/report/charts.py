"""Tables behind the charts of `dvc plots`.

A folder for each kind of chart has a CSV file for each task on a corpus, with every setting and
seed. DVC adds the revision."""

import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.report.curves import HISTORY, TRAINING, read, training_title, validation_metric
from pipeline.report.results import Group
from pipeline.report.style import upper_first

Rows = Iterator[tuple[Any, ...]]

_EMPTY = "none.csv"  # DVC reports a folder without files as a fault


def write(groups: Sequence[Group], plots: Path, out: Path) -> None:
    """Write the tables of the groups into the folder `out`; `plots` has those of the runs.

    A kind of chart that no group has gets a table without rows."""
    kinds: dict[str, tuple[tuple[str, ...], Callable[[Group, Path], Rows]]] = {
        "scores": (("measure", "setting", "seed", "score"), _scores),
        "learning_curves": (("curve", "setting", "seed", "step", "value"), _learning_curves),
        "by_length": (("measure", "setting", "seed", "split", "length", "score"), _by_length),
        "confusion": (("setting", "seed", "actual", "predicted", "rows"), _confusion),
    }
    for kind, (header, rows_of) in kinds.items():
        folder = out / kind
        folder.mkdir()
        for group in groups:
            if rows := list(rows_of(group, plots)):
                _write_csv(folder / f"{group.key}.csv", header, rows)
        if not any(folder.iterdir()):
            _write_csv(folder / _EMPTY, header, [])


def _scores(group: Group, plots: Path) -> Rows:
    """The score of each run that ranks the settings."""
    measure = f"{upper_first(group.task.main_name)}, {group.split_name}"
    for setting in group.settings:
        for result in setting.results:
            score = result.metric(f"{group.split}.{group.task.main}.score")
            yield measure, setting.name, result.run.seed, score


def _learning_curves(group: Group, plots: Path) -> Rows:
    """Training loss and validation score of each run that is trained in steps."""
    metric = validation_metric(group)
    curves = (
        (training_title(group), TRAINING, "train_loss"),
        (f"Validation {metric}", HISTORY, f"valid_{metric}"),
    )
    for setting in group.settings:
        if setting.is_fitted:
            continue
        for result in setting.results:
            for curve, file, key in curves:
                for row in read(plots / result.name / file):
                    if row.get(key):
                        yield curve, setting.name, result.run.seed, row["step"], row[key]


def _by_length(group: Group, plots: Path) -> Rows:
    """The main score of each run by the length of the text."""
    measure = upper_first(f"{group.task.main_name} by {group.task.divided_by}")
    for setting in group.settings:
        for result in setting.results:
            for row in read(plots / result.name / "by_length.csv"):
                score = row[group.task.main]
                yield measure, setting.name, result.run.seed, row["split"], row["length"], score


def _confusion(group: Group, plots: Path) -> Rows:
    """How many rows with each label got which label from each run."""
    for setting in group.settings:
        for result in setting.results:
            for actual, counts in (result.metric(f"{group.split}.confusion") or {}).items():
                for predicted, rows in counts.items():
                    yield setting.name, result.run.seed, actual, predicted, rows


def _write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
