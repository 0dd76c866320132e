"""Charts of the main score against the size of the models and against the work of training them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from pipeline.report import cells, overview
from pipeline.report.curve_charts import PAGE_SIZE
from pipeline.report.curves import HISTORY, read
from pipeline.report.document import PageOnly
from pipeline.report.page import chart, side_by_side
from pipeline.report.results import Group, SettingResults
from pipeline.report.style import (
    PAPER,
    QUIET,
    hues,
    log_ticks,
    open_figure,
    upper_first,
)
from pipeline.report.svg import tip, to_svg

_WIDE_RANGE = 8  # scores that differ by such a factor are drawn on a logarithmic scale
_NEAR = 0.15  # share of the height from which on a point is not near a line
_LETTER_WIDTH = 5.6  # points, of the names beside the marks
# Offsets of a name from its mark, its alignment, and the share of its width left of its anchor.
_PLACES = (
    (8, 0, "left", 0),
    (-8, 0, "right", 1),
    (0, 11, "center", 0.5),
    (0, -11, "center", 0.5),
    (4, 11, "right", 1),
    (4, -11, "right", 1),
    (-4, 11, "left", 0),
    (-4, -11, "left", 0),
)

Box = tuple[float, float, float, float]
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
            "Lines go from the lowest to the highest seed. Hollow marks are baselines, which are "
            "fitted without gradients. Point at a mark for its numbers.",
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
        figure.subplots_adjust(left=0.1, right=0.98, bottom=0.15, top=0.91)
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
        _scale(group, axes, list(costs.values()), [score for of in values.values() for score in of])
        axes.set_xlabel(axis)
        axes.set_title(upper_first(group.task.main_title))
        points = {name: (costs[name], mean(scores)) for name, scores in values.items()}
        _name_points(axes, points, hue, _limit_line(group, axes, list(points.values())))
        description = f"{title}: " + "; ".join(descriptions.values())
        return to_svg(figure, name, description)


def _scale(group: Group, axes: Any, costs: list[float], scores: list[float]) -> None:
    """Set scales and ticks, with some room around the data."""
    if group.task.scale is None and min(scores) > 0 and max(scores) > _WIDE_RANGE * min(scores):
        axes.set_yscale("log")
        log_ticks(axes.yaxis, scores)
    room = (max(costs) / min(costs)) ** 0.06
    axes.set_xlim(min(costs) / room, max(costs) * room)
    axes.margins(y=0.12)
    log_ticks(axes.xaxis, costs)


def _name_points(
    axes: Any,
    points: Mapping[str, tuple[float, float]],
    hue: Mapping[str, str],
    taken: Sequence[Box],
) -> None:
    """Write the names beside their points, the best setting first. A name that would cover a point,
    another name or one of the `taken` boxes is left out: the point's tooltip has it."""
    scale = 72 / axes.figure.dpi  # points per pixel
    centre = {name: axes.transData.transform(at) * scale for name, at in points.items()}
    taken = [*taken, *((x - 4, y - 4, x + 4, y + 4) for x, y in centre.values())]
    left, right = axes.bbox.x0 * scale, axes.bbox.x1 * scale
    for name, (x, y) in centre.items():
        width = _LETTER_WIDTH * len(name)
        for dx, dy, align, share in _PLACES:
            start = x + dx - width * share
            box = (start, y + dy - 5, start + width, y + dy + 5)
            is_free = left <= box[0] and box[2] <= right
            if is_free and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                axes.annotate(
                    name,
                    points[name],
                    (dx, dy),
                    textcoords="offset points",
                    color=hue[name],
                    fontsize=9,
                    ha=align,
                    va="center",
                )
                break


def _overlap(first: Box, second: Box) -> bool:
    """Whether two boxes (left, bottom, right, top) share a part."""
    return (
        first[0] < second[2]
        and second[0] < first[2]
        and first[1] < second[3]
        and second[1] < first[3]
    )


def _limit_line(group: Group, axes: Any, points: Sequence[tuple[float, float]]) -> list[Box]:
    """Draw a dotted line at the best score that can be expected, if it is known, with a label on
    the side where fewer points are near; return the boxes of both."""
    value = overview.limit(group)
    if value is None:
        return []
    axes.axhline(value, color=QUIET, linewidth=1, linestyle=(0, (1, 2)))
    to_share = (axes.transData + axes.transAxes.inverted()).transform
    level = to_share((1, value))[1]
    near = [x for x, y in map(to_share, points) if abs(y - level) < _NEAR]
    is_left = sum(x < 1 / 3 for x in near) <= sum(x > 2 / 3 for x in near)

    # The label is below a line that no score is above, and above a line that none is below.
    label = f"limit {group.task.form.format(value)}"
    offset, align = (-3, "top") if group.task.higher_is_better else (3, "bottom")
    axes.annotate(
        label,
        (0 if is_left else 1, value),
        (3 if is_left else -3, offset),
        ("axes fraction", "data"),
        "offset points",
        color=QUIET,
        fontsize=8.5,
        ha="left" if is_left else "right",
        va=align,
    )
    scale = 72 / axes.figure.dpi
    width = _LETTER_WIDTH * len(label) + 3
    left = axes.bbox.x0 * scale if is_left else axes.bbox.x1 * scale - width
    bottom = axes.transData.transform((1, value))[1] * scale + offset
    bottom -= 10 if align == "top" else 0
    line = axes.transData.transform((1, value))[1] * scale
    whole_line = (axes.bbox.x0 * scale, line - 1, axes.bbox.x1 * scale, line + 1)
    return [(left, bottom, left + width, bottom + 10), whole_line]
