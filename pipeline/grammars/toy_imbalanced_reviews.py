"""The reviews of `toy_reviews.py`, of which a chosen share is positive, for classes of different
size.

The rule, and the split of each bag of words, are those of `toy_reviews.py`. All splits are
imbalanced in the same way. The label depends on the sign of the review alone, so the rule has the
highest expected accuracy, and the highest macro F1 of all functions of the text."""

from collections import Counter
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random

from pipeline.core.errors import refuse
from pipeline.core.seeding import derive
from pipeline.grammars import grammar
from pipeline.grammars.toy_reviews import (
    LABELS,
    SPLITS,
    reviews,
    rule_accuracy,
    write_limits,
    write_split,
)

__all__ = ["SPLITS", "Config", "write"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(grammar.Config):
    """`source.builtin` without `grammar`: `positive` is the share of reviews that are positive by
    the rule, `flipped` the share of labels that are opposite to it."""

    positive: float
    flipped: float

    def __post_init__(self) -> None:
        grammar.Config.__post_init__(self)
        if not 0 < self.positive < 1:
            raise refuse("positive", self.positive, "a share between 0 and 1, such as 0.1")
        if not 0 <= self.flipped < 0.5:
            raise refuse("flipped", self.flipped, "a share from 0 to below 0.5, such as 0.02")


def write(raw: Path, config: Config) -> None:
    """Write the files of `toy_reviews.write`; the limits are accuracy and macro F1 of the rule.

    UserError for a split without a review of one of the labels.
    """
    limits = {}
    for split, rows in config.sizes.items():
        random = Random(derive(config.seed, f"toy_imbalanced_reviews/{split}"))
        sampled = islice(reviews(split, random, config.positive, config.flipped), rows)
        counts = write_split(raw, split, sampled)
        _refuse_missing_label(split, counts)
        limits[split] = {"accuracy": rule_accuracy(counts), "f1": _rule_f1(counts)}
    write_limits(raw, limits)


def _refuse_missing_label(split: str, counts: Counter[tuple[str, str]]) -> None:
    for name in LABELS.values():
        if not any(count for (label, _), count in counts.items() if label == name):
            raise refuse(
                f"sizes.{split}",
                f"{counts.total()} rows without one that is {name}",
                "rows of every label",
                "Raise it, or choose a share `positive` nearer to 0.5.",
            )


def _rule_f1(counts: Counter[tuple[str, str]]) -> float:
    """The rule's macro F1 in per cent, from counts of (label, label by the rule)."""
    f1 = []
    for name in LABELS.values():
        labelled = sum(count for (label, _), count in counts.items() if label == name)
        predicted = sum(count for (_, rule), count in counts.items() if rule == name)
        f1.append(200 * counts[name, name] / (labelled + predicted))
    return sum(f1) / len(f1)
