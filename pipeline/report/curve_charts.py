"""Learning curves and scores by length as charts of the page: `curves`, a panel each."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.report.curves import (
    curves_of,
    ends_of,
    length_panel,
    length_title,
    rows_by_length,
    training_panel,
    training_title,
    validation_metric,
    validation_panel,
)
from pipeline.report.page import chart
from pipeline.report.results import Group
from pipeline.report.style import hues, name_lines, open_figure, side_margin
from pipeline.report.svg import to_svg

PAGE_SIZE = (5.6, 3.4)  # inches, of a chart of the page


def learning_curve_charts(group: Group, plots: Path) -> list[str]:
    """Draw the two panels of `learning_curves` for the page, each with its caption."""
    curves = curves_of(group, plots)
    if not curves.names:
        return []

    hue = hues([setting.name for setting in group.settings])
    names = ", ".join(curves.names)
    parts = []
    for key, title, text, panel in (
        ("loss", training_title(group), "Each line is the mean over the seeds.", training_panel),
        (
            "valid",
            f"Validation {validation_metric(group)}",
            "Dots are the weights that each seed kept.",
            validation_panel,
        ),
    ):
        with _page_figure(curves.names, title) as (figure, axes):
            panel(axes, curves, hue)
            lines = curves.losses if key == "loss" else curves.validations
            edge = axes.get_xlim()[1]
            ends = {name: (edge, height) for name, (_, height) in ends_of(lines).items()}
            name_lines(axes, ends, hue)
            svg = to_svg(figure, f"{key}-{group.key}", f"{title} by step, of {names}")
        parts.append(
            chart(svg, f"**{title}** by step. {text} Bands go from the lowest to the highest seed.")
        )
    return parts


def by_length_charts(group: Group, plots: Path) -> list[str]:
    """Draw `by_length` for the page, with its caption."""
    rows = rows_by_length(group, plots)
    if not rows:
        return []
    title = length_title(group)
    with _page_figure(list(rows), title) as (figure, axes):
        length_panel(axes, group, rows)
        svg = to_svg(figure, f"length-{group.key}", f"{title}, of {', '.join(rows)}")
    text = "Bands go from the lowest to the highest seed; bars of single runs are intervals."
    hollow = "Hollow marks are further splits."
    return [chart(svg, f"**{title}** ({group.task.length}). {text} {hollow}")]


@contextmanager
def _page_figure(names: Sequence[str], title: str) -> Iterator[tuple[Any, Any]]:
    """Open a figure for the page, with a title and room for the names of lines; yield it with its
    axes."""
    with open_figure(*PAGE_SIZE) as figure:
        axes = figure.subplots()
        margin = side_margin(names, PAGE_SIZE[0])
        figure.subplots_adjust(left=0.1, right=1 - margin, bottom=0.15, top=0.91)
        axes.set_title(title)
        yield figure, axes
