"""Confusion matrices: a row per true label, a column per predicted label, cells as shares of the
row."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.report.heat_table import heat_table
from pipeline.report.results import Group, SettingResults
from pipeline.report.style import INK, QUIET, save_figure

_COLUMNS = 4  # panels side by side
_MAX_WRITTEN = 12  # labels up to which every cell shows its share


def matrices(group: Group, plots: Path, out: Path) -> bool:
    """Draw a panel per setting, in order of rank, with the labels sorted by name and the counts of
    all seeds added; return False if no setting has labels."""
    confusion, labels = _confusion(group)
    if not labels:
        return False

    # Layout in inches: a grid of square panels, with the labels' names on the left and below.
    columns = min(_COLUMNS, len(confusion))
    rows = -(-len(confusion) // _COLUMNS)
    side = max(1.5, 0.42 * len(labels))
    margin = 0.35 + 0.085 * max(len(label) for label in labels)
    width = margin + columns * (side + 0.3)
    height = rows * (side + 0.45) + 0.6 * margin

    with save_figure(out, width, height) as figure:
        for number, (name, counts) in enumerate(confusion.items()):
            x = margin + number % columns * (side + 0.3)
            y = 0.35 + number // columns * (side + 0.45)
            axes = figure.add_axes(
                (x / width, 1 - (y + side) / height, side / width, side / height)
            )
            _panel(axes, _shares(counts, labels))
            axes.set_title(name, fontsize=min(10.5, 115 * (side + 0.25) / len(name)))
            first_column = number % columns == 0
            last_row = number // columns == rows - 1  # others would be over the panels below
            shown = [label.replace("$", r"\$") for label in labels]
            axes.set_xticks(
                range(len(labels)),
                shown if last_row else [],
                rotation=30,
                ha="right",
                rotation_mode="anchor",
            )
            axes.set_yticks(range(len(labels)), shown if first_column else [])
            axes.tick_params(length=0, labelcolor=QUIET, labelsize=9)
    return True


def tables(group: Group) -> list[str]:
    """The panels as tables of the page, with both axes named in each; none without labels."""
    confusion, labels = _confusion(group)
    numbers = len(labels) <= _MAX_WRITTEN
    return [
        heat_table(name, ("true", "predicted"), labels, labels, _shares(counts, labels), numbers)
        for name, counts in confusion.items()
        if labels
    ]


def _confusion(group: Group) -> tuple[dict[str, dict[str, dict[str, int]]], list[str]]:
    """The counts of each setting, and the sorted labels; no labels if the task has none."""
    confusion = {setting.name: _added(setting, group.split) for setting in group.settings}
    return confusion, sorted({label for counts in confusion.values() for label in counts})


def _added(setting: SettingResults, split: str) -> dict[str, dict[str, int]]:
    """Confusion counts of the split, summed over the setting's seeds."""
    added: dict[str, dict[str, int]] = {}
    for result in setting.results:
        for true, counts in (result.metric(f"{split}.confusion") or {}).items():
            row = added.setdefault(true, {})
            for label, count in counts.items():
                row[label] = row.get(label, 0) + count
    return added


def _shares(counts: dict[str, dict[str, int]], labels: list[str]) -> NDArray[np.float64]:
    """Confusion counts as shares of each true label; a label without texts has zeros."""
    table_LL = np.array(
        [[counts.get(true, {}).get(label, 0) for label in labels] for true in labels], np.float64
    )
    shares_LL: NDArray[np.float64] = table_LL / np.maximum(table_LL.sum(1, keepdims=True), 1)
    return shares_LL


def _panel(axes: Any, shares: NDArray[np.float64]) -> None:
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    axes.grid(visible=False)
    if len(shares) > _MAX_WRITTEN:
        return
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
