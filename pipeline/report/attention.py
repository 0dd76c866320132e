"""Heatmaps of attention weights for the sample sentences."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.report.heat_table import heat_table
from pipeline.report.style import INK, QUIET, save_figure

_CELL = 0.34  # inches per word of the large map
_SMALL = 0.115  # inches per word of the small maps
_AXES = ("output", "input")
_HEADS = re.compile(r"(\d+) head (\d+)")


def heatmap(table: pa.Table, row: int, out: Path) -> None:
    """Draw a sample, the rows of ATTENTION with number `row`: the mean over the heads of the last
    layer, and each head as a small map.

    A model with a single map gets that map only. Input words along the top, output words downwards;
    darker is larger."""
    inputs, outputs, maps = _maps(table, row)
    small_maps = maps if len(maps) > 1 else []

    # Layout in inches, from the top left: the large map, then two rows of small maps.
    columns = -(-len(small_maps) // 2)
    left, top = _label_space(outputs), _label_space(inputs) * 0.78
    big = (len(inputs) * _CELL, len(outputs) * _CELL)
    small = (max(len(inputs) * _SMALL, 0.62), max(len(outputs) * _SMALL, 0.5))
    width = left + big[0] + 0.25 + (columns * (small[0] + 0.2) + 0.15 if small_maps else 0)
    height = top + max(big[1], 2 * (small[1] + 0.32) if small_maps else 0) + 0.15

    with save_figure(out, width, height) as figure:
        axes = figure.add_axes(
            (left / width, 1 - (top + big[1]) / height, big[0] / width, big[1] / height)
        )
        _draw_with_words(axes, np.mean(maps, axis=0), inputs, outputs)

        for number, weights in enumerate(small_maps):
            x = left + big[0] + 0.35 + (number % columns) * (small[0] + 0.2)
            y = top + 0.22 + (number // columns) * (small[1] + 0.32)
            panel = figure.add_axes(
                (x / width, 1 - (y + small[1]) / height, small[0] / width, small[1] / height)
            )
            _draw_weights(panel, weights)
            panel.set_title(
                f"head {number + 1}",
                fontsize=7,
                color=QUIET,
                pad=3,
                fontweight="normal",
                loc="left",
            )


def mean_map(table: pa.Table, row: int, name: str) -> str:
    """The large map of a sample as a table of the page; `name` is the setting's."""
    inputs, outputs, maps = _maps(table, row)
    return heat_table(name, _AXES, outputs, inputs, np.mean(maps, axis=0))


def head_maps(table: pa.Table, row: int, name: str) -> list[str]:
    """The small maps of a sample as tables of the page; none for a model with a single map."""
    inputs, outputs, maps = _maps(table, row)
    if len(maps) == 1:
        return []
    return [
        heat_table(f"{name}, head {number}", _AXES, outputs, inputs, weights)
        for number, weights in enumerate(maps, 1)
    ]


def _maps(table: pa.Table, row: int) -> tuple[list[str], list[str], list[NDArray[np.float64]]]:
    """Input words, output words and the weights of each head of a sample's last layer."""
    heads = last_layer(table.filter(pc.field("row") == row).to_pylist())
    inputs = heads[0]["columns"]
    outputs = heads[0]["rows"]
    maps = [
        np.asarray(head["weights"], dtype=np.float64).reshape(len(outputs), len(inputs))
        for head in heads
    ]
    return inputs, outputs, maps


def last_layer(maps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Select the heads of the highest layer from maps named `... <layer> head <head>`, in order.

    If no map has such a name, select the last map."""
    numbered: list[tuple[int, int, dict[str, Any]]] = []
    for weights in maps:
        match = _HEADS.search(weights["name"])
        if match:
            numbered.append((int(match[1]), int(match[2]), weights))
    if not numbered:
        return maps[-1:]

    last = max(layer for layer, _, _ in numbered)
    numbered.sort(key=lambda entry: entry[:2])
    return [weights for layer, _, weights in numbered if layer == last]


def _draw_with_words(
    axes: Any, weights: NDArray[np.float64], inputs: list[str], outputs: list[str]
) -> None:
    _draw_weights(axes, weights)
    axes.xaxis.tick_top()
    axes.set_xticks(
        range(len(inputs)),
        [_plain(word) for word in inputs],
        rotation=50,
        ha="left",
        rotation_mode="anchor",
    )
    axes.set_yticks(range(len(outputs)), [_plain(word) for word in outputs])
    axes.tick_params(length=0, labelsize=9, labelcolor=INK, pad=4)


def _draw_weights(axes: Any, weights: NDArray[np.float64]) -> None:
    # One colour scale for all maps: weights are at most 1, up to rounding.
    axes.imshow(
        weights,
        cmap="Blues",
        vmin=0,
        vmax=max(1.0, float(weights.max())),
        aspect="auto",
        interpolation="nearest",
    )
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_color("#d5dae0")


def _plain(word: str) -> str:
    """Escape `$`, which starts mathematics in matplotlib; nothing, or only spaces, has a sign."""
    return word.replace("$", r"\$") if word.strip() else "␣"


def _label_space(words: list[str]) -> float:
    """Inches that the longest word needs beside the map."""
    return 0.3 + 0.085 * max(len(word) for word in words)
