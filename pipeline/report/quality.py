"""Charts of the main score against the size of the models and against the work of training them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import mean
from typing import Any

from pipeline.report import cells, overview
from pipeline.report.curves import HISTORY, PAGE_SIZE, read
from pipeline.report.document import PageOnly
from pipeline.report.page import chart, side_by_side
from pipeline.report.results import Group, SettingResults
from pipeline.report.style import (
    PAPER,
    QUIET,
    hues,
    log_ticks,
    name_lines,
    open_figure,
    upper_first,
)
from pipeline.report.svg import tip, to_svg

_WIDE_RANGE = 8  # scores that differ by such a factor are drawn on a logarithmic scale

Cost = Callable[[SettingResults, Path], float | None]


def quality(group: Group, plots: Path) -> list[PageOnly]:
    """Draw the mean score of each setting, with a line from the lowest to the highest seed; nothing
    for a single setting."""
    if len(group.settings) < 2:
        return []
    better = "higher" if group.task.higher_is_better else "lower"
    drawn = []
    for name, title, axis, cost, text in (
        (
            "size",
            "by parameters",
            "parameters",
            _parameters,
            "Hollow marks are baselines, which are fitted without gradients.",
        ),
        (
            "work",
            "by training work",
            "parameters × passes over the train split",
            _work,
            "The multiply-adds of a training grow about as parameters × passes. Hours depend on "
            "the machine: MLflow has those of every run (`seqline ui`). Work of a run that a "
            "setting is initialized from is not counted.",
        ),
    ):
        costs = {s.name: value for s in group.settings if (value := cost(s, plots)) is not None}
        if len(set(costs.values())) > 1:
            label = upper_first(f"{group.task.main_name} {title}")
            svg = _draw(group, costs, f"{name}-{group.key}", label, axis)
            drawn.append(chart(svg, f"**{label}** ({better} is better). {text}"))
    return [side_by_side(drawn)] if drawn else []


def _parameters(setting: SettingResults, plots: Path) -> float | None:
    return float(setting.first.metric("parameters")) or None


def _work(setting: SettingResults, plots: Path) -> float | None:
    """Parameters times epochs, the mean over the seeds; None for a model that is fitted at once."""
    if setting.is_fitted:
        return None
    histories = [read(plots / result.name / HISTORY) for result in setting.results]
    epochs = mean(float(rows[-1]["epoch"]) for rows in histories)
    return epochs * float(setting.first.metric("parameters"))


def _draw(group: Group, costs: Mapping[str, float], name: str, title: str, axis: str) -> str:
    settings = [setting for setting in group.settings if setting.name in costs]
    key = f"{group.split}.{group.task.main}.score"
    values = {setting.name: setting.values(key) for setting in settings}
    hue = hues([setting.name for setting in group.settings])
    descriptions = {
        setting.name: f"{setting.name}: {cells.mean_score(setting, key, group.task.form)} "
        f"{group.task.main_name}, {costs[setting.name]:,.0f} {axis}"
        for setting in settings
    }

    with open_figure(*PAGE_SIZE) as figure:
        axes = figure.subplots()
        figure.subplots_adjust(left=0.1, right=0.98, bottom=0.15, top=0.96)
        axes.set_xscale("log")
        for setting in settings:
            colour, scores, x = hue[setting.name], values[setting.name], costs[setting.name]
            axes.vlines([x], min(scores), max(scores), color=colour, alpha=0.45, linewidth=2.4)
            axes.plot(
                [x],
                [mean(scores)],
                marker="o",
                markersize=6.5,
                linestyle="none",
                color=colour,
                markerfacecolor=PAPER if setting.is_deterministic else colour,
                markeredgewidth=1.6,
                clip_on=False,
                gid=tip(descriptions[setting.name]),
            )
        _scale(axes, list(costs.values()), [score for of in values.values() for score in of])
        _limit_line(group, axes)
        axes.set_xlabel(axis)
        _name_points(axes, {n: (costs[n], mean(scores)) for n, scores in values.items()}, hue)
        description = f"{title}: " + "; ".join(descriptions.values())
        return to_svg(figure, name, description)


def _scale(axes: Any, costs: list[float], scores: list[float]) -> None:
    """Set scales and ticks, with some room around the data."""
    if min(scores) > 0 and max(scores) > _WIDE_RANGE * min(scores):
        axes.set_yscale("log")
        log_ticks(axes.yaxis, scores)
    room = (max(costs) / min(costs)) ** 0.06
    axes.set_xlim(min(costs) / room, max(costs) * room)
    axes.margins(y=0.12)
    log_ticks(axes.xaxis, costs)


def _name_points(
    axes: Any, points: Mapping[str, tuple[float, float]], hue: Mapping[str, str]
) -> None:
    """Write each name beside its point: right of it, but left in the right half of the axes."""
    middle = axes.bbox.x0 + axes.bbox.width / 2
    is_right = {name: axes.transData.transform(at)[0] > middle for name, at in points.items()}
    for side in (False, True):
        names = {name: at for name, at in points.items() if is_right[name] == side}
        if names:
            name_lines(axes, names, hue, left=side)


def _limit_line(group: Group, axes: Any) -> None:
    """A dotted line at the best score that can be expected."""
    value = overview.limit(group)
    if value is None:
        return
    axes.axhline(value, color=QUIET, linewidth=1, linestyle=(0, (1, 2)))
    axes.annotate(
        f"limit {group.task.form.format(value)}",
        (0, value),
        (3, 3 if not group.task.higher_is_better else -3),
        ("axes fraction", "data"),
        "offset points",
        color=QUIET,
        fontsize=8.5,
        va="bottom" if not group.task.higher_is_better else "top",
    )
