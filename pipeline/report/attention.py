"""Heatmaps of attention: what each word of an answer looked at, for the sample sentences."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.report.style import INK, QUIET, save_figure

_CELL, _SMALL = 0.34, 0.115  # inches per word
_HEADS = re.compile(r"(\d+) head (\d+)")


def heatmap(table: pa.Table, row: int, out: Path) -> None:
    """One sample (a row of ATTENTION): the mean over the heads of the last layer, and beside it
    each of those heads.

    Where a model has one map only, that map. Input words along the top, output words downwards;
    darker is more."""
    chosen = last_layer(table.filter(pc.field("row") == row).to_pylist())
    inputs, outputs = chosen[0]["columns"], chosen[0]["rows"]
    maps = [
        np.asarray(found["weights"], dtype=np.float64).reshape(len(outputs), len(inputs))
        for found in chosen
    ]
    heads = len(maps) if len(maps) > 1 else 0
    across = -(-heads // 2)
    left, top = _room(outputs), _room(inputs) * 0.78
    big = (len(inputs) * _CELL, len(outputs) * _CELL)
    small = (max(len(inputs) * _SMALL, 0.62), max(len(outputs) * _SMALL, 0.5))
    width = left + big[0] + 0.25 + (across * (small[0] + 0.2) + 0.15 if heads else 0)
    height = top + max(big[1], 2 * (small[1] + 0.32) if heads else 0) + 0.15
    with save_figure(out, width, height) as figure:
        axes = figure.add_axes(
            (left / width, 1 - (top + big[1]) / height, big[0] / width, big[1] / height)
        )
        _draw(axes, np.mean(maps, axis=0), inputs, outputs)
        for number, weights in enumerate(maps if heads else []):
            x = left + big[0] + 0.35 + (number % across) * (small[0] + 0.2)
            y = top + 0.22 + (number // across) * (small[1] + 0.32)
            panel = figure.add_axes(
                (x / width, 1 - (y + small[1]) / height, small[0] / width, small[1] / height)
            )
            _paint(panel, weights)
            panel.set_title(
                f"head {number + 1}",
                fontsize=7,
                color=QUIET,
                pad=3,
                fontweight="normal",
                loc="left",
            )


def last_layer(maps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of maps named `... <layer> head <head>` those of the highest layer, by head; of others the
    last."""
    numbered = [
        (tuple(map(int, found.groups())), one)
        for one in maps
        if (found := _HEADS.search(one["name"]))
    ]
    if not numbered:
        return maps[-1:]
    layer = max(number[0] for number, _ in numbered)
    return [one for number, one in sorted(numbered, key=lambda pair: pair[0]) if number[0] == layer]


def _draw(axes: Any, weights: NDArray[np.float64], inputs: list[str], outputs: list[str]) -> None:
    _paint(axes, weights)
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


def _paint(axes: Any, weights: NDArray[np.float64]) -> None:
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
    """No mathematics out of a dollar sign; a visible mark for a space."""
    return word.replace("$", r"\$").replace(" ", "␣") or "␣"


def _room(words: list[str]) -> float:
    return 0.3 + 0.085 * max(len(word) for word in words)
