"""Figures of numbers: learning curves, and the main score by sentence length."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from pipeline.core.errors import describe_error, refuse
from pipeline.report.results import TEST, VALID, Group, SettingResults
from pipeline.report.style import (
    QUIET,
    SHADE,
    hues,
    log_ticks,
    name_lines,
    save_figure,
    side_margin,
    upper_first,
)
from pipeline.report.svg import tip

HISTORY = "history.csv"  # the only file that has rows for every run
TRAINING = "training.csv"
_KEYS = {"step", "epoch", "split"}  # the columns of a table without rows
_RANKING = {TEST, VALID}  # of both, by_length.csv has the one that ranks

Rows = list[dict[str, str]]
Points = list[tuple[float, float]]


def read(path: Path) -> Rows:
    """Read a CSV file of `reports/plots`; UserError if it is missing or damaged. A run that has
    nothing to draw has a table without rows."""
    todo = "Remove it. Run `dvc repro`."
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise refuse(str(path), "no such file", "what evaluate writes", todo) from None
    except (IsADirectoryError, UnicodeDecodeError) as error:
        raise refuse(str(path), describe_error(error), "what evaluate writes", todo) from None

    reader = csv.DictReader(io.StringIO(text, newline=""))
    rows = list(reader)
    # DictReader puts surplus cells under the key None, and None in place of missing ones.
    damaged = any(None in row or None in row.values() or not _is_numeric(row) for row in rows)
    is_cut_off = not text.endswith("\n")
    lacks_rows = not rows and (path.name == HISTORY or not set(reader.fieldnames or ()) <= _KEYS)
    if damaged or is_cut_off or lacks_rows:
        raise refuse(str(path), "a table that is cut off or damaged", "what evaluate writes", todo)
    return rows


def _is_numeric(row: dict[str, str]) -> bool:
    """Return whether each cell is a number or empty, but for the name of the split."""
    try:
        for name, cell in row.items():
            if cell and name != "split":
                float(cell)
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Curves:
    """Curves of the settings that are trained in steps: a band of training losses and one of
    validations for each name, and the validation of the weights that each seed kept."""

    group: Group
    losses: "dict[str, Band]"
    validations: "dict[str, Band]"
    kept: dict[str, Points]

    @property
    def names(self) -> list[str]:
        return list(self.validations)


def learning_curves(group: Group, plots: Path, out: Path) -> bool:
    """Draw training loss and validation perplexity by step, a line per setting with a band from the
    lowest to the highest seed; return False if no setting has any.

    Perplexity is the exponential of a loss per token. For other losses the validation loss itself
    is drawn."""
    curves = curves_of(group, plots)
    if not curves.names:
        return False

    hue = hues(curves.names)
    with save_figure(out, 9.6, 3.7) as figure:
        left, right = figure.subplots(1, 2, width_ratios=(1, 1))
        figure.subplots_adjust(
            left=0.06, right=1 - side_margin(curves.names, 9.6), bottom=0.14, top=0.88, wspace=0.16
        )
        training_panel(left, curves, hue)
        left.set_title(training_title(group))
        validation_panel(right, curves, hue)
        right.set_title(f"Validation {validation_metric(group)}")
        name_lines(right, ends_of(curves.validations), hue)
    return True


def curves_of(group: Group, plots: Path) -> Curves:
    """Read the curves of a group; none of models that are fitted without steps."""
    metric = validation_metric(group)
    bands = {
        setting.name: _band(_of_seeds(setting, plots, HISTORY, f"valid_{metric}"))
        for setting in group.settings
    }
    losses = {
        setting.name: _band(_of_seeds(setting, plots, TRAINING, "train_loss"))
        for setting in group.settings
    }
    names = [s.name for s in group.settings if bands[s.name].mean and not s.is_fitted]
    return Curves(
        group,
        {name: losses[name] for name in names},
        {name: bands[name] for name in names},
        _best_points(group, plots),
    )


def training_panel(axes: Any, curves: Curves, hue: Mapping[str, str]) -> None:
    """Draw the training losses."""
    _lines(axes, curves.losses, hue)
    _step_axis(axes)


def validation_panel(axes: Any, curves: Curves, hue: Mapping[str, str]) -> None:
    """Draw the validations, and those of the weights that were kept."""
    bands = curves.validations
    _lines(axes, bands, hue)
    if validation_metric(curves.group) == "perplexity":
        axes.set_yscale("log")
        log_ticks(axes.yaxis, [y for band in bands.values() for y in (*band.low, *band.high)])
    _step_axis(axes)

    # Mark the validation of the weights that were kept, one mark per seed.
    for name, points in curves.kept.items():
        axes.plot(
            [step for step, _ in points],
            [value for _, value in points],
            "o",
            color=hue[name],
            markersize=5,
            markeredgecolor="white",
            linestyle="none",
            clip_on=False,
        )


def ends_of(bands: "Mapping[str, Band]") -> dict[str, tuple[float, float]]:
    """The last point of each mean."""
    return {name: band.mean[-1] for name, band in bands.items() if band.mean}


def _step_axis(axes: Any) -> None:
    axes.set_xlabel("steps")
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")


def training_title(group: Group) -> str:
    """The title of a curve of the training loss, with its unit."""
    return f"Training loss, nats per {group.task.unit}"


def validation_metric(group: Group) -> str:
    """The metric of validations whose curve is drawn."""
    return "perplexity" if group.task.unit == "token" else "loss"


def by_length(group: Group, plots: Path, out: Path) -> bool:
    """Draw the main score by length, a line per setting with a band from the lowest to the highest
    seed; return False if no setting has more than one bucket.

    The background of lengths beyond those of the test split is shaded."""
    rows = rows_by_length(group, plots)
    if not rows:
        return False

    names = list(rows)
    with save_figure(out, 7.4, 4.0) as figure:
        axes = figure.subplots()
        figure.subplots_adjust(left=0.075, right=1 - side_margin(names, 7.4), bottom=0.13, top=0.88)
        length_panel(axes, group, rows)
        axes.set_title(length_title(group))
    return True


def length_title(group: Group) -> str:
    """The title of scores by length."""
    return upper_first(f"{group.task.main_name} by {group.task.divided_by}")


def rows_by_length(group: Group, plots: Path) -> dict[str, list[Rows]]:
    """The tables of each setting's seeds; none if no setting has more than one bucket."""
    rows = {
        setting.name: [read(plots / result.name / "by_length.csv") for result in setting.results]
        for setting in group.settings
    }
    return rows if any(len(of_seeds[0]) > 1 for of_seeds in rows.values()) else {}


def length_panel(axes: Any, group: Group, rows_by_setting: Mapping[str, list[Rows]]) -> None:
    """Draw the scores by length."""
    task = group.task
    hue = hues(list(rows_by_setting))
    ends = {}
    for name, of_seeds in rows_by_setting.items():
        for split in dict.fromkeys(row["split"] for row in of_seeds[0]):
            series = [
                [_point(row, task.main) for row in rows if row["split"] == split]
                for rows in of_seeds
            ]
            _with_band(axes, _band(series), of_seeds, split, hue[name])
        if of_seeds[0]:
            longest = max(of_seeds[0], key=lambda row: float(row["length"]))
            at = float(longest["length"])
            ends[name] = (
                at,
                mean(
                    _point(row, task.main)[1]
                    for rows in of_seeds
                    for row in rows
                    if (row["split"], float(row["length"])) == (longest["split"], at)
                ),
            )

    axes.set_xlabel(task.length)
    if task.scale:
        axes.set_ylim(task.scale[0], task.scale[1] * 1.02)
    axes.set_xlim(left=0)
    _mark_splits(axes, [row for of_seeds in rows_by_setting.values() for row in of_seeds[0]])
    name_lines(axes, ends, hue)


def _with_band(axes: Any, band: "Band", of_seeds: Sequence[Rows], split: str, color: str) -> None:
    """Draw the mean with a band over several seeds; with one seed, the interval over sentences."""
    x = [step for step, _ in band.mean]
    if len(of_seeds) > 1:
        axes.fill_between(x, band.low, band.high, color=color, alpha=0.16, linewidth=0)
    else:
        rows = [row for row in of_seeds[0] if row["split"] == split]
        low = [float(row["low"]) for row in rows]
        high = [float(row["high"]) for row in rows]
        axes.vlines(x, low, high, color=color, alpha=0.28, linewidth=1.4)
    face = color if split in _RANKING else "white"  # hollow markers for further splits
    axes.plot(
        x,
        [value for _, value in band.mean],
        color=color,
        marker="o",
        markersize=4.2,
        markerfacecolor=face,
        markeredgewidth=1.3,
    )


def _mark_splits(axes: Any, rows: Rows) -> None:
    """Shade and name the part of the axis that only a further split covers."""
    longest = max((int(row["to"]) for row in rows if row["split"] in _RANKING), default=0)

    # Do not mark a split that starts in the lower half of the test split's lengths.
    for split in sorted({row["split"] for row in rows} - _RANKING):
        starts = min(int(row["from"]) for row in rows if row["split"] == split)
        if starts > longest // 2:
            edge = max(starts, longest) - 0.5 if starts > longest else starts - 0.5
            axes.axvspan(edge, axes.get_xlim()[1], color=SHADE, zorder=0, linewidth=0)
            axes.annotate(
                split,
                (edge, 1),
                (6, -4),
                ("data", "axes fraction"),
                "offset points",
                color=QUIET,
                va="top",
                fontsize=9,
            )


def _best_points(group: Group, plots: Path) -> dict[str, Points]:
    """Validation of the weights of each seed, by setting: the best one, or that of the averaged
    weights of the last epochs."""
    metric = validation_metric(group)
    best: dict[str, Points] = {}
    for setting in group.settings:
        if setting.is_fitted:
            continue
        averaged = _of_seeds(setting, plots, HISTORY, f"valid_averaged_{metric}")
        valid = _of_seeds(setting, plots, HISTORY, f"valid_{metric}")
        for result, last, series in zip(setting.results, averaged, valid, strict=True):
            for point in last or series:
                if point[0] == result.metric("best_step"):
                    best.setdefault(setting.name, []).append(point)
    return best


@dataclass(frozen=True, slots=True)
class Band:
    """Curves of several seeds: their mean, and the lowest and highest value at each of its
    points."""

    mean: Points
    low: list[float]
    high: list[float]


def _band(series: Sequence[Points]) -> Band:
    """The band over the points that all seeds have, by their order: epochs of undersampled rows
    have different numbers of steps, of which the mean is drawn."""
    shared = list(zip(*series, strict=False))
    values = [[value for _, value in points] for points in shared]
    steps = [mean([step for step, _ in points]) for points in shared]
    return Band(
        list(zip(steps, map(mean, values), strict=True)),
        [min(at) for at in values],
        [max(at) for at in values],
    )


def _of_seeds(setting: SettingResults, plots: Path, file: str, key: str) -> list[Points]:
    """The curve `key` of every run of the setting."""
    return [_series(read(plots / result.name / file), key) for result in setting.results]


def _lines(axes: Any, bands: Mapping[str, Band], hue: Mapping[str, str]) -> None:
    for name, band in reversed(list(bands.items())):
        x = [step for step, _ in band.mean]
        marker = {"marker": "o", "markersize": 3} if len(x) == 1 else {}
        axes.fill_between(x, band.low, band.high, color=hue[name], alpha=0.16, linewidth=0)
        y = [value for _, value in band.mean]
        label = f"{name}: {y[-1]:.4g} at step {x[-1]:,.0f}" if y else name
        axes.plot(x, y, color=hue[name], gid=tip(label), **marker)


def _series(rows: Rows, key: str) -> Points:
    return [(float(row["step"]), float(row[key])) for row in rows if row.get(key)]


def _point(row: Mapping[str, str], key: str) -> tuple[float, float]:
    return float(row["length"]), float(row[key])
