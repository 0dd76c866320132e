"""Handwritten digits: the 1,797 pictures of 8 x 8 pixels that scikit-learn contains, the test set
of Alpaydin and Kaynak (1998, "Optical Recognition of Handwritten Digits", UCI).

They are no grammar's: a natural corpus that needs no download. Its limit is unknown. The rows are
divided at random, so a writer's digits are in all splits."""

from pathlib import Path
from random import Random

import numpy as np
import pyarrow as pa

from pipeline.core import tables
from pipeline.core.errors import refuse
from pipeline.core.images import encode_png
from pipeline.core.seeding import derive
from pipeline.grammars.grammar import Config

SPLITS = ("train", "valid", "test")
_INK = 16  # a pixel of a digit counts dots of ink, at most these


def write(raw: Path, config: Config) -> None:
    """Write `<split>.parquet` (`tables.IMAGES`) into the folder `raw`; UserError if the splits need
    more rows than there are.

    The rows are shuffled by the seed and given to the splits in their order."""
    # Takes a second to import, and only this corpus needs it.
    from sklearn.datasets import load_digits

    digits = load_digits()
    wanted = sum(config.sizes.values())
    if wanted > len(digits.target):
        raise refuse(
            "sizes", f"{wanted} rows in all", f"at most {len(digits.target)}, as there are digits"
        )

    random = Random(derive(config.seed, "digits"))
    order = sorted(range(len(digits.target)), key=lambda _: random.random())
    pixels_NYX = (digits.images * 255 / _INK).round().astype(np.uint8)
    start = 0
    for split in SPLITS:
        rows = order[start : start + config.sizes.get(split, 0)]
        start += len(rows)
        if rows:
            files = pa.array([encode_png(pixels_NYX[row]) for row in rows], pa.binary())
            labels = [str(digits.target[row]) for row in rows]
            tables.write(raw / f"{split}.parquet", pa.table([files, labels], schema=tables.IMAGES))
