"""Style of figures: a hue per run, few lines, direct labels, and reproducible bytes."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

INK, QUIET, FAINT = "#22262b", "#6b747d", "#e3e7ea"  # text, secondary text, grid
EDGE, SHADE, PAPER = "#b9c0c8", "#f5f6f8", "#ffffff"  # axes, shaded areas, background
# Distinguishable with colour blindness.
HUES = (
    "#0b6fa4",
    "#d1662a",
    "#3a8f5c",
    "#a4508b",
    "#8a7a2c",
    "#5a6bb8",
    "#b5404c",
    "#4f9aa8",
)
OTHER = "#a3abb3"  # from the ninth run on

_LINE_HEIGHT = 13.0  # points between the names of two lines

_MOST_TICKS = 8  # of a logarithmic axis
_TICK_STEPS = (
    (1, 2, 5),
    (1, 1.5, 2, 3, 4, 5, 7),
    (1, 1.1, 1.2, 1.3, 1.4, 1.5, 1.7, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9),
    tuple(1 + i / 5 for i in range(45)),
)

_SETTINGS: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # bundled with matplotlib, so the same on all machines
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": EDGE,
    "axes.labelcolor": QUIET,
    "axes.linewidth": 0.8,
    "axes.titlelocation": "left",
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlepad": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.8,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "ytick.minor.size": 0,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "figure.dpi": 160,
    "path.simplify": True,
    # Text of SVG figures stays text, and their ids are the same in every run.
    "svg.fonttype": "none",
    "svg.hashsalt": "seqline",
}


def hues(names: Sequence[str]) -> dict[str, str]:
    """Each run's colour, by its rank."""
    return {name: HUES[i] if i < len(HUES) else OTHER for i, name in enumerate(names)}


@contextmanager
def open_figure(width: float, height: float) -> Iterator[Any]:
    """Open a figure of `width` x `height` inches, with the style in force until the block ends."""
    import matplotlib

    with matplotlib.rc_context(_SETTINGS):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(width, height))
        FigureCanvasAgg(figure)
        yield figure


@contextmanager
def save_figure(out: Path, width: float, height: float) -> Iterator[Any]:
    """Open a figure as `open_figure`; write it to `out` as PNG when the block ends."""
    with open_figure(width, height) as figure:
        yield figure
        # The metadata would name matplotlib's version.
        figure.savefig(out, format="png", facecolor="white", metadata={"Software": None})


def log_ticks(axis: Any, values: Sequence[float]) -> None:
    """Set ticks of a logarithmic axis at round numbers within the data: 1, 2, 5, 10, 20, 50, ...,
    and finer steps if those give fewer than three; of too many, leave some out."""
    low, high = min(values), max(values)
    for steps in _TICK_STEPS:
        ticks = [
            s * 10**e
            for e in range(-6, 16)
            for s in steps
            if low * 0.97 <= s * 10**e <= high * 1.03
        ]
        if len(ticks) >= 3:
            break
    ticks = ticks[:: -(-len(ticks) // _MOST_TICKS)] if ticks else [low]
    axis.set_ticks(ticks, [_short(tick) for tick in ticks])
    axis.set_ticks([], minor=True)


def _short(number: float) -> str:
    """A number with `k` for thousands and `M` for millions, if it has five digits or more."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= 10 * unit or (number >= unit and unit > 1e3):
            return f"{number / unit:g}{letter}"
    return f"{number:,g}"


def side_margin(names: Sequence[str], width: float) -> float:
    """The share of the width (inches) that the longest name needs right of the lines."""
    return (0.25 + 0.082 * max(len(name) for name in names)) / width


def name_lines(axes: Any, ends: Mapping[str, tuple[float, float]], hue: Mapping[str, str]) -> None:
    """Write each line's name right of its end (data coordinates), without overlaps."""
    # Vertical positions above the axes' lower edge, in points.
    height = axes.bbox.height * 72 / axes.figure.dpi
    end_heights = [
        (axes.transData.transform(end)[1] - axes.bbox.y0) * 72 / axes.figure.dpi
        for end in ends.values()
    ]
    label_heights = spread(end_heights, _LINE_HEIGHT, 5.0, height)

    for (name, end), label, line_end in zip(ends.items(), label_heights, end_heights, strict=True):
        axes.annotate(
            name,
            end,
            xytext=(8, label - line_end),
            textcoords="offset points",
            color=hue[name],
            fontsize=9,
            va="center",
            annotation_clip=False,
        )


def upper_first(text: str) -> str:
    """Capitalize the first letter only."""
    return text[:1].upper() + text[1:]


def spread(targets: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Positions near the targets, in the same order, at least `gap` apart, and between `low` and
    `high` if they fit."""

    def start(cluster: Sequence[int]) -> float:
        """Lowest position of a cluster whose members are `gap` apart around their mean target."""
        extent = gap * (len(cluster) - 1)
        mean = sum(targets[i] for i in cluster) / len(cluster)
        return max(low, min(mean - extent / 2, high - extent))

    # Add targets in ascending order, and merge the last two clusters while they overlap.
    clusters: list[list[int]] = []
    for i in sorted(range(len(targets)), key=lambda i: targets[i]):
        clusters.append([i])
        while len(clusters) > 1:
            end = start(clusters[-2]) + gap * len(clusters[-2])
            if start(clusters[-1]) >= end:
                break
            last = clusters.pop()
            clusters[-1] += last

    positions = [0.0] * len(targets)
    for cluster in clusters:
        for place, i in enumerate(cluster):
            positions[i] = start(cluster) + gap * place
    return positions
