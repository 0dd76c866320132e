"""Unlabeled reviews for pre-training: a paragraph for each reviewer, of only positive or only
negative reviews.

The reviews are those of `toy_reviews.py`, with the same division into splits: no review of its test
split is in another one here. The sentiment of two reviews predicts whether they are consecutive
(BERT's next sentence prediction)."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random

from pipeline.core.seeding import derive
from pipeline.grammars.grammar import BUCKETS, Config, Grammar
from pipeline.grammars.toy_reviews import bucket, rules

SPLITS = tuple(BUCKETS)
LAST = 0.25  # probability that a review is its reviewer's last; there are at least two


def write(raw: Path, config: Config) -> None:
    """Write `<split>.txt` (UTF-8, a review per line, a blank line between reviewers) into the
    folder `raw`."""
    for split, count in config.sizes.items():
        random = Random(derive(config.seed, f"toy_reviewers/{split}"))
        with (raw / f"{split}.txt").open("w", encoding="utf-8", newline="\n") as file:
            for texts in islice(reviewers(split, random), count):
                file.write("\n".join(texts) + "\n\n")


def reviewers(split: str, random: Random) -> Iterator[list[str]]:
    """Sample the reviews of one reviewer after another, without end."""
    grammar = Grammar(rules())
    while True:
        sign = "+" if random.random() < 0.5 else "-"
        texts: list[str] = []
        while len(texts) < 2 or random.random() >= LAST:
            (text,), _ = grammar.draw(f"Review {sign}", random)
            if bucket(text) in BUCKETS[split]:
                texts.append(text)
        yield texts
