"""A noisy sine wave (d2l section 9.1): x_t = sin(0.01 t) + noise, for t = 1, 2, ...

The splits are consecutive parts of one series. The noise cannot be predicted, so the error of who
knows the sine is the lowest that can be expected, however many steps ahead."""

import json
import math
from pathlib import Path
from random import Random

from pipeline.core.seeding import derive
from pipeline.grammars.grammar import Config
from pipeline.grammars.noise import write_split

SPLITS = ("train", "valid", "test")
STEP = 0.01  # radians from a value to the next
NOISE = 0.2  # its standard deviation


def write(raw: Path, config: Config) -> None:
    """Write `<split>.txt` (a value per line) and `limits.json` into the folder `raw`."""
    limits = {}
    first = 1
    for split in sorted(config.sizes, key=SPLITS.index):
        count = config.sizes[split]
        rows = (((), math.sin(STEP * time)) for time in range(first, first + count))
        random = Random(derive(config.seed, f"noisy_sine/{split}"))
        limits[split] = write_split(raw / f"{split}.txt", rows, NOISE, random)
        first += count
    (raw / "limits.json").write_text(json.dumps(limits, indent=1) + "\n", encoding="utf-8")
