"""Unlabeled reviews: a paragraph for each, of reviews that are all praise or all blame.

The reviews are those of `toy_reviews.py`, and those that may stand in its test split stand in no
other here: text on which a model may be pre-trained before it is shown labels. Whether one review
follows another can be told from what both say."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random

from pipeline.core.seeding import derive
from pipeline.grammars.grammar import Config, Grammar
from pipeline.grammars.toy_reviews import BUCKETS, bucket, rules

SPLITS = tuple(BUCKETS)
LAST = 0.25  # how likely a review is its reviewer's last one; there are always two


def write(raw: Path, config: Config) -> None:
    """Write `<split>.txt` (UTF-8, a review per line, a blank line between reviewers) into the
    folder `raw`."""
    for split, count in config.sizes.items():
        written = islice(
            reviewers(split, Random(derive(config.seed, f"toy_reviewers/{split}"))), count
        )
        with (raw / f"{split}.txt").open("w", encoding="utf-8", newline="\n") as file:
            for texts in written:
                file.write("\n".join(texts) + "\n\n")


def reviewers(split: str, random: Random) -> Iterator[list[str]]:
    """The reviews of one reviewer after another, without end."""
    grammar = Grammar(rules())
    while True:
        sign, texts = "+" if random.random() < 0.5 else "-", list[str]()
        while len(texts) < 2 or random.random() >= LAST:
            (text,), _ = grammar.draw(f"Review {sign}", random)
            if bucket(text) in BUCKETS[split]:
                texts.append(text)
        yield texts
