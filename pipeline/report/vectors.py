"""Scatter plot of word vectors on their first two principal components, a dot per word, coloured by
class."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.report.style import HUES, INK, OTHER, QUIET, open_figure, save_figure
from pipeline.report.svg import to_svg

_SIZE = (7.4, 5.6)  # inches
_WORDS = 400  # dots: the most frequent words
_LABELLED = 70  # dots with their word
# Without classes, words with a larger share of the text are left out: they are mostly function
# words, and crowd the middle.
_FREQUENT = 0.01


def picture(table: pa.Table, classes: Mapping[str, str], out: Path) -> None:
    """Draw the most frequent words of a table of VECTORS; dots are coloured by the first word of
    their class in `classes`.

    Vectors are scaled to length 1, as cosine compares them.
    """
    with save_figure(out, *_SIZE) as figure:
        _draw(figure, table, classes)


def drawing(table: pa.Table, classes: Mapping[str, str], name: str, description: str) -> str:
    """The same figure as SVG, with the arguments `name` and `description` of `to_svg`."""
    with open_figure(*_SIZE) as figure:
        _draw(figure, table, classes)
        return to_svg(figure, name, description)


def _draw(figure: Any, table: pa.Table, classes: Mapping[str, str]) -> None:
    words = _select_words(table, classes)
    tokens = words["token"].to_pylist()
    values = words["vector"].combine_chunks().values.to_numpy()
    vector_VD = values.astype(np.float64).reshape(len(tokens), -1)
    norm_V1 = np.maximum(np.linalg.norm(vector_VD, axis=1, keepdims=True), 1e-12)
    point_V2 = principal_components(vector_VD / norm_V1)

    # The most common classes get a hue.
    kinds = [classes.get(token, "").split(" ")[0] for token in tokens]
    common = [kind for kind, _ in Counter(kind for kind in kinds if kind).most_common(len(HUES))]
    hue = dict(zip(common, HUES, strict=False))

    axes = figure.add_axes((0.02, 0.03, 0.96 if not hue else 0.81, 0.94))
    axes.scatter(
        *point_V2.T, s=11, c=[hue.get(kind, OTHER) for kind in kinds], linewidths=0, alpha=0.85
    )

    position_V2 = axes.transData.transform(point_V2) * 72 / figure.dpi  # points
    for i in _labelled(position_V2, tokens):
        axes.annotate(
            tokens[i].replace("$", r"\$"),
            point_V2[i],
            (3, 2),
            textcoords="offset points",
            fontsize=7,
            color=hue.get(kinds[i], INK),
        )
    # Remove ticks and frame: distances between the projected points have no unit.
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)

    # Legend.
    for number, kind in enumerate(common):
        figure.text(
            0.85, 0.94 - 0.045 * number, f"●  {kind}", color=hue[kind], fontsize=9, va="top"
        )
    if hue and len(set(kinds)) > len(common):
        figure.text(0.85, 0.94 - 0.045 * len(common), "●  other", color=QUIET, fontsize=9, va="top")


def principal_components(point_VD: NDArray[np.float64]) -> NDArray[np.float64]:
    """The points' first two principal components (Pearson 1901), point_V2.

    A component is defined up to its sign: here its largest weight is positive."""
    centred_VD = point_VD - point_VD.mean(0)
    _, _, axes_DD = np.linalg.svd(centred_VD, full_matrices=False)
    axes_2D = np.zeros((2, point_VD.shape[1]))
    axes_2D[: len(axes_DD)] = axes_DD[:2]

    largest_21 = np.take_along_axis(axes_2D, np.abs(axes_2D).argmax(1)[:, None], 1)
    signs_21 = np.where(largest_21 < 0, -1.0, 1.0)
    projected_V2: NDArray[np.float64] = centred_VD @ (axes_2D * signs_21).T
    return projected_V2


def _labelled(position_V2: NDArray[np.float64], tokens: list[str]) -> list[int]:
    """Up to `_LABELLED` words, the most frequent first, whose labels do not overlap.

    Positions are in points; labels are 7 points high, and about 4.5 points wide per character."""
    chosen: list[int] = []
    for i, (x, y) in enumerate(position_V2):
        neighbours = ((position_V2[j], tokens[j]) for j in chosen)
        if all(
            abs(y - b) > 8 or x > a + 4.5 * len(word) or a > x + 4.5 * len(tokens[i])
            for (a, b), word in neighbours
        ):
            chosen.append(i)
        if len(chosen) == _LABELLED:
            break
    return chosen


def _select_words(table: pa.Table, classes: Mapping[str, str]) -> pa.Table:
    """The most frequent words that have a class; without classes, those that are not too
    frequent."""
    counts = table["count"].to_numpy()
    tokens = table["token"].to_pylist()
    if classes:
        selected = np.array([token in classes for token in tokens])
    else:
        selected = counts <= max(_FREQUENT * counts.sum(), counts.min(initial=0))
    return table.filter(pa.array(selected)).slice(0, _WORDS)
