"""Points of a curve with noise (d2l section 11.2): y = 2 sin x + x + noise, x uniform from 0 to 5.

The error of who knows the curve is the lowest that can be expected."""

import json
import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random

from pipeline.core.seeding import derive
from pipeline.grammars.grammar import Config
from pipeline.grammars.noise import write_split

SPLITS = ("train", "valid", "test")
LARGEST = 5.0  # x
NOISE = 0.5  # its standard deviation


def write(raw: Path, config: Config) -> None:
    """Write `<split>.txt` (x and y in each line) and `limits.json` into the folder `raw`."""
    limits = {}
    for split, count in config.sizes.items():
        random = Random(derive(config.seed, f"noisy_curve/{split}"))
        rows = islice(points(random), count)
        limits[split] = write_split(raw / f"{split}.txt", rows, NOISE, random)
    (raw / "limits.json").write_text(json.dumps(limits, indent=1) + "\n", encoding="utf-8")


def points(random: Random) -> Iterator[tuple[tuple[float, ...], float]]:
    """Draw points of the curve, without end: x in a tuple, and y without noise."""
    while True:
        x = LARGEST * random.random()
        yield (x,), 2 * math.sin(x) + x
