"""Confusion matrices: of the texts of each true label (a row), what share each run took for each
label (a column)."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.report.results import SPLIT, Group
from pipeline.report.style import INK, QUIET, save_figure

_ACROSS = 4  # panels side by side
_MOST_WRITTEN = 12  # labels up to which every cell shows its share


def matrices(group: Group, plots: Path, out: Path) -> bool:
    """A panel per run in the order of their rank, rows and columns in the order of the labels'
    names; False if none has labels."""
    found = {result.name: result.metric(f"{SPLIT}.confusion") for result in group.results}
    if not any(found.values()):
        return False
    labels = sorted({label for counts in found.values() for label in counts or ()})
    across, down = min(_ACROSS, len(found)), -(-len(found) // _ACROSS)
    side, margin = max(1.5, 0.42 * len(labels)), 0.35 + 0.085 * max(len(label) for label in labels)
    width, height = margin + across * (side + 0.3), down * (side + 0.45) + 0.6 * margin
    with save_figure(out, width, height) as figure:
        for number, (name, counts) in enumerate(found.items()):
            x, y = margin + number % across * (side + 0.3), 0.35 + number // across * (side + 0.45)
            axes = figure.add_axes(
                (x / width, 1 - (y + side) / height, side / width, side / height)
            )
            _panel(axes, _shares(counts or {}, labels))
            axes.set_title(name, fontsize=min(10.5, 115 * (side + 0.25) / len(name)))
            _name_ticks(
                axes, labels, left=number % across == 0, below=number + across >= len(found)
            )
    return True


def _shares(counts: dict[str, dict[str, int]], labels: list[str]) -> NDArray[np.float64]:
    table = np.array(
        [[counts.get(true, {}).get(label, 0) for label in labels] for true in labels], np.float64
    )
    shares: NDArray[np.float64] = table / np.maximum(table.sum(1, keepdims=True), 1)
    return shares


def _panel(axes: Any, shares: NDArray[np.float64]) -> None:
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    axes.grid(visible=False)
    if len(shares) <= _MOST_WRITTEN:
        for (row, column), share in np.ndenumerate(shares):
            axes.text(
                column,
                row,
                f"{share:.0%}",
                ha="center",
                va="center",
                color="white" if share > 0.6 else INK,
                fontsize=9,
            )


def _name_ticks(axes: Any, labels: list[str], *, left: bool, below: bool) -> None:
    shown = [label.replace("$", r"\$") for label in labels]
    axes.set_xticks(
        range(len(labels)), shown if below else [], rotation=30, ha="right", rotation_mode="anchor"
    )
    axes.set_yticks(range(len(labels)), shown if left else [])
    axes.tick_params(length=0, labelcolor=QUIET, labelsize=9)
