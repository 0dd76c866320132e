"""Style of figures: one hue per run, few lines, direct labels, and the same bytes every time."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

INK, QUIET, FAINT = "#22262b", "#6b747d", "#e3e7ea"
HUES = (
    "#0b6fa4",
    "#d1662a",
    "#3a8f5c",
    "#a4508b",
    "#8a7a2c",
    "#5a6bb8",
    "#b5404c",
    "#4f9aa8",
)  # apart to the colour-blind too
OTHER = "#a3abb3"  # from the ninth run on

_SETTINGS: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so it is everywhere the same
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": "#b9c0c8",
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
}


def hues(names: Sequence[str]) -> dict[str, str]:
    """Each run's colour, by its rank."""
    return {name: HUES[i] if i < len(HUES) else OTHER for i, name in enumerate(names)}


@contextmanager
def save_figure(out: Path, width: float, height: float) -> Iterator[Any]:
    """A figure of that many inches, written to `out` when the block ends."""
    import matplotlib

    with matplotlib.rc_context(_SETTINGS):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(width, height))
        FigureCanvasAgg(figure)
        yield figure
        figure.savefig(out, format="png", facecolor="white", metadata={"Software": None})


def name_lines(axes: Any, ends: Mapping[str, tuple[float, float]], hue: Mapping[str, str]) -> None:
    """Each line's name right of its end (data coordinates), pushed apart where two would
    overlap."""
    gap, height = 13.0, axes.bbox.height * 72 / axes.figure.dpi  # points
    to_points = [
        (axes.transData.transform(end)[1] - axes.bbox.y0) * 72 / axes.figure.dpi
        for end in ends.values()
    ]
    placed = spread(to_points, gap, 5.0, height)
    for (name, end), at, points in zip(ends.items(), placed, to_points, strict=True):
        axes.annotate(
            name,
            end,
            xytext=(8, at - points),
            textcoords="offset points",
            color=hue[name],
            fontsize=9,
            va="center",
            annotation_clip=False,
        )


def upper_first(text: str) -> str:
    """The text with a capital at its beginning, all else as it is."""
    return text[:1].upper() + text[1:]


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Positions near the wanted ones, in the same order, at least `gap` apart, and from `low` to
    `high` if they fit."""

    def start(cluster: Sequence[int]) -> float:
        extent = gap * (len(cluster) - 1)
        return max(
            low, min(sum(wanted[i] for i in cluster) / len(cluster) - extent / 2, high - extent)
        )

    clusters: list[list[int]] = []
    for i in sorted(range(len(wanted)), key=lambda i: wanted[i]):
        clusters.append([i])
        while len(clusters) > 1 and start(clusters[-1]) < start(clusters[-2]) + gap * len(
            clusters[-2]
        ):
            last = clusters.pop()
            clusters[-1] += last
    found = [0.0] * len(wanted)
    for cluster in clusters:
        for place, i in enumerate(cluster):
            found[i] = start(cluster) + gap * place
    return found
