"""Sentences without labels for pre-training: a paragraph for each scene of `toy_inference.py`, of
sentences that all describe it.

Whether two sentences agree predicts whether they are consecutive (BERT's next sentence
prediction)."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random

from pipeline.core.seeding import derive
from pipeline.grammars.grammar import BUCKETS, Config
from pipeline.grammars.toy_inference import (
    ENTAILMENT,
    NEUTRAL,
    SPLITS,
    bucket,
    premise_of,
    scene,
)

__all__ = ["SPLITS", "Config", "write"]

LAST = 0.4  # probability that a sentence is its paragraph's last; there are at least two


def write(raw: Path, config: Config) -> None:
    """Write `<split>.txt` (UTF-8, a sentence per line, a blank line between scenes) into the folder
    `raw`."""
    for split, count in config.sizes.items():
        random = Random(derive(config.seed, f"toy_scenes/{split}"))
        with (raw / f"{split}.txt").open("w", encoding="utf-8", newline="\n") as file:
            for texts in islice(scenes(split, random), count):
                file.write("\n".join(texts) + "\n\n")


def scenes(split: str, random: Random) -> Iterator[list[str]]:
    """Sample the sentences about one scene after another, without end."""
    while True:
        described = scene(random)
        texts: list[str] = []
        while len(texts) < 2 or random.random() >= LAST:
            relation = ENTAILMENT if random.random() < 0.5 else NEUTRAL
            texts.append(premise_of(described, relation, random).text())
        if bucket(described) in BUCKETS[split]:
            yield texts
