"""A picture of word vectors: the plane in which they differ most, a dot per word, coloured by its
class where it has one."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.report.style import HUES, INK, OTHER, QUIET, save_figure

_WORDS, _NAMED = 400, 70  # dots, and those that carry their word: the most frequent ones
# words of a larger share of the text say more of grammar than of meaning, and crowd the middle
_FREQUENT = 0.01


def picture(table: pa.Table, classes: Mapping[str, str], out: Path) -> None:
    """Draw the most frequent words of a table of VECTORS. `classes`: each word's, by whose first
    word dots are coloured.

    Of vectors at length 1, as cosine compares them.
    """
    shown = _shown(table, classes)
    tokens = shown["token"].to_pylist()
    vector_VD = (
        shown["vector"]
        .combine_chunks()
        .values.to_numpy()
        .astype(np.float64)
        .reshape(len(tokens), -1)
    )
    point_V2 = principal_components(
        vector_VD / np.maximum(np.linalg.norm(vector_VD, axis=1, keepdims=True), 1e-12)
    )
    kinds = [classes.get(token, "").split(" ")[0] for token in tokens]
    common = [kind for kind, _ in Counter(kind for kind in kinds if kind).most_common(len(HUES))]
    hue = dict(zip(common, HUES, strict=False))
    with save_figure(out, 7.4, 5.6) as figure:
        axes = figure.add_axes((0.02, 0.03, 0.96 if not hue else 0.81, 0.94))
        axes.scatter(
            *point_V2.T, s=11, c=[hue.get(kind, OTHER) for kind in kinds], linewidths=0, alpha=0.85
        )
        for i in _apart(axes.transData.transform(point_V2) * 72 / figure.dpi, tokens):
            label = tokens[i].replace("$", r"\$")
            axes.annotate(
                label,
                point_V2[i],
                (3, 2),
                textcoords="offset points",
                fontsize=7,
                color=hue.get(kinds[i], INK),
            )
        _bare(axes)
        for number, kind in enumerate(common):
            figure.text(
                0.85, 0.94 - 0.045 * number, f"●  {kind}", color=hue[kind], fontsize=9, va="top"
            )
        if hue and len(set(kinds)) > len(common):
            figure.text(
                0.85, 0.94 - 0.045 * len(common), "●  other", color=QUIET, fontsize=9, va="top"
            )


def principal_components(point_VD: NDArray[np.float64]) -> NDArray[np.float64]:
    """The points' two principal components (Pearson 1901), each turned so that its largest weight
    is positive."""
    centred_VD = point_VD - point_VD.mean(0)
    _, _, axes_DD = np.linalg.svd(centred_VD, full_matrices=False)
    axes_2D = np.zeros((2, point_VD.shape[1]))
    axes_2D[: len(axes_DD)] = axes_DD[:2]
    heaviest_2 = np.take_along_axis(axes_2D, np.abs(axes_2D).argmax(1)[:, None], 1)
    turned: NDArray[np.float64] = centred_VD @ (axes_2D * np.where(heaviest_2 < 0, -1.0, 1.0)).T
    return turned


def _apart(place_V2: NDArray[np.float64], tokens: list[str]) -> list[int]:
    """Up to `_NAMED` words, the most frequent first, whose names (7 points high) would not be
    written over each other."""
    found: list[int] = []
    for i, (x, y) in enumerate(place_V2):
        beside = ((place_V2[j], tokens[j]) for j in found)
        if all(
            abs(y - b) > 8 or x > a + 4.5 * len(word) or a > x + 4.5 * len(tokens[i])
            for (a, b), word in beside
        ):
            found.append(i)
        if len(found) == _NAMED:
            break
    return found


def _shown(table: pa.Table, classes: Mapping[str, str]) -> pa.Table:
    """The most frequent words that have a class, if there are classes, else those that are not too
    frequent."""
    counts = table["count"].to_numpy()
    tokens = table["token"].to_pylist()
    if classes:
        wanted = np.array([token in classes for token in tokens])
    else:
        wanted = counts <= max(_FREQUENT * counts.sum(), counts.min(initial=0))
    return table.filter(pa.array(wanted)).slice(0, _WORDS)


def _bare(axes: Any) -> None:
    """No scale: distances in the plane have no unit."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
