"""Pictures of two shapes, far from each other, whose label is a relation between them; one label in
twenty is wrong.

The rule: a shape is a cross or a box, of one of three sizes, somewhere in its half of the picture.
Two shapes of one kind are `same`, in any sizes. Else the label says which of them is on the left:
`cross_left` or `box_left`.

The limit of half a picture: the kinds are independent, so a shape says nothing about the other one.
Given either half, the more frequent of the two labels that remain has probability 1/2, which is
also the share of `same`. So no function of one half is right on more rows than a constant answer.

Every pixel is noisy and both shapes are anywhere, so no two pictures are equal. Shapes: Y rows and
X columns of pixels."""

import json
from pathlib import Path
from random import Random

import numpy as np
import pyarrow as pa

from pipeline.core import tables
from pipeline.core.images import Pixels, encode_png
from pipeline.core.seeding import derive
from pipeline.grammars.grammar import Config

SPLITS = ("train", "valid", "test")
SIZE = 16  # pixels of each side
LABELS = ("box_left", "cross_left", "same")
# Share of the labels other than the rule's: the best expected accuracy is 0.95.
WRONG = 0.05

_SIDE = 5  # pixels of a shape
_PLACES = (0, 5, 9)  # first rows of a shape in its half
_JITTER = 2  # pixels by which a shape may be lower, and farther to the right
_NOISE = 96  # grey levels of the background, from black on
_BRIGHTEST = 255
_DIMMEST = 128  # of a shape


def write(raw: Path, config: Config) -> None:
    """Write `<split>.parquet` (`tables.IMAGES`) and `limits.json` into the folder `raw`.

    The limit is the rule's own accuracy on the split's rows, in per cent.
    """
    limits = {}
    for split, rows in config.sizes.items():
        random = Random(derive(config.seed, f"toy_pictures/{split}"))
        pictures = [draw(random) for _ in range(rows)]
        pixels, labels, true_labels = zip(*pictures, strict=True)
        files = pa.array([encode_png(pixels_YX) for pixels_YX in pixels], pa.binary())
        tables.write(raw / f"{split}.parquet", pa.table([files, labels], schema=tables.IMAGES))

        correct = sum(label == true for label, true in zip(labels, true_labels, strict=True))
        limits[split] = {"accuracy": 100 * correct / rows}
    (raw / "limits.json").write_text(json.dumps(limits, indent=2) + "\n", encoding="utf-8")


def draw(random: Random) -> tuple[Pixels, str, str]:
    """Draw a picture YX, its label, and the label by the rule."""
    pixels_YX = np.array(
        [[_up_to(random, _NOISE) for _ in range(SIZE)] for _ in range(SIZE)], np.uint8
    )
    kinds = [_draw_shape(pixels_YX[:, half : half + SIZE // 2], random) for half in (0, SIZE // 2)]
    true_label = "same" if kinds[0] == kinds[1] else f"{kinds[0]}_left"

    label = true_label
    if random.random() < WRONG:
        others = [name for name in LABELS if name != true_label]
        label = others[_up_to(random, len(others))]
    return pixels_YX, label, true_label


def _draw_shape(half_YX: Pixels, random: Random) -> str:
    """Draw a cross or a box at a random place into half of a picture, in place; return its kind."""
    kind = ("box", "cross")[_up_to(random, 2)]
    y = _PLACES[_up_to(random, len(_PLACES))] + _up_to(random, _JITTER + 1)
    x = _up_to(random, _JITTER + 1)
    brightness = _DIMMEST + _up_to(random, _BRIGHTEST - _DIMMEST + 1)
    half_YX[y : y + _SIDE, x : x + _SIDE][mask(kind)] = brightness
    return kind


def mask(kind: str) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    """Mark the pixels of a shape: the outline of a box, or the diagonals of a cross."""
    number = np.arange(_SIDE)
    marked: np.ndarray[tuple[int, int], np.dtype[np.bool_]]
    if kind == "cross":
        marked = (number[:, None] == number) | (number[:, None] == _SIDE - 1 - number)
    else:
        is_edge = (number == 0) | (number == _SIDE - 1)
        marked = is_edge[:, None] | is_edge
    return marked


def _up_to(random: Random, count: int) -> int:
    """A random number from 0 to `count` - 1."""
    # `random.random` alone has the same sequence in every version of Python.
    return int(random.random() * count)
