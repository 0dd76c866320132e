"""Short reviews whose label follows from their words and their order; one label in twenty is
flipped.

The rule: a clause has the sentiment of its one positive or negative word, flipped by each negation
in it (`not`, `never`, `hardly`, `nobody`, `do not think that`). Two clauses joined by `and` agree.
Of two that disagree the main one decides: the one after `but`, or the one without `although`, in
either order.

The limit of a bag of words: if the clauses of a review disagree, exchanging them gives a review of
the same words, the same probability and the opposite label. So no function of the bag is right on
more than half of these reviews, which are `CONTRAST` of all. All reviews of a bag of words are in
the same split."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from random import Random

from pipeline.core.seeding import derive
from pipeline.grammars.grammar import BUCKETS, Config, Grammar, Rules, hash_bucket

SPLITS = ("train", "valid", "test")
LABELS = {"+": "positive", "-": "negative"}
OTHER = {"+": "-", "-": "+"}
# Share of the labels opposite to the rule: the best expected accuracy is 0.95.
FLIPPED = 0.05
CONTRAST = 0.6  # share of the reviews with two clauses that disagree

WORDS = {
    "aspect": "plot acting story music ending cast dialogue camerawork script pace humour setting",
    "person": "i we they everybody",
    "degree": "very really quite rather",
    "quality +": (
        "good great funny clever moving brilliant charming fresh honest superb witty gripping"
    ),
    "quality -": (
        "bad dull boring stupid weak awful clumsy stale predictable terrible silly tedious"
    ),
    "verb +": "love enjoy admire like praise",
    "verb -": "hate dislike regret detest despise",
}
PAST = {
    word: word + ("d" if word.endswith("e") else "ted" if word == "regret" else "ed")
    for word in (*WORDS["verb +"].split(), *WORDS["verb -"].split())
}


def write(raw: Path, config: Config) -> None:
    """Write `<split>.positive`, `<split>.negative` (UTF-8, a review per line) and `limits.json`
    into the folder `raw`.

    The limit is the rule's own accuracy on the split's rows, in per cent.
    """
    limits = {}
    for split, rows in config.sizes.items():
        random = Random(derive(config.seed, f"toy_reviews/{split}"))
        counts = write_split(raw, split, islice(reviews(split, random), rows))
        limits[split] = {"accuracy": rule_accuracy(counts)}
    write_limits(raw, limits)


def write_split(
    raw: Path, split: str, rows: Iterable[tuple[str, str, str]]
) -> Counter[tuple[str, str]]:
    """Write the reviews of a split; return how many have each pair of label and label by the
    rule."""
    counts: Counter[tuple[str, str]] = Counter()
    with ExitStack() as stack:
        files = {
            label: stack.enter_context(
                (raw / f"{split}.{label}").open("w", encoding="utf-8", newline="\n")
            )
            for label in LABELS.values()
        }
        for text, label, true_label in rows:
            files[label].write(text + "\n")
            counts[label, true_label] += 1
    return counts


def write_limits(raw: Path, limits: dict[str, dict[str, float]]) -> None:
    """Write the best scores of each split into the folder `raw`."""
    (raw / "limits.json").write_text(json.dumps(limits, indent=2) + "\n", encoding="utf-8")


def rule_accuracy(counts: Counter[tuple[str, str]]) -> float:
    """The rule's accuracy in per cent, from counts of (label, label by the rule)."""
    correct = sum(counts[label, label] for label in LABELS.values())
    return 100 * correct / counts.total()


def reviews(
    split: str, random: Random, positive: float = 0.5, flipped: float = FLIPPED
) -> Iterator[tuple[str, str, str]]:
    """Sample reviews of `split` (text, label, the label by the rule) without end.

    `positive`: the share of reviews that are positive by the rule; `flipped`: of labels opposite to
    it."""
    grammar = Grammar(rules())
    while True:
        sign = "+" if random.random() < positive else "-"
        (text,), _ = grammar.draw(f"Review {sign}", random)
        label_sign = OTHER[sign] if random.random() < flipped else sign
        if bucket(text) in BUCKETS[split]:
            yield text, LABELS[label_sign], LABELS[sign]


def rules() -> Rules:
    """Build the grammar: `Review +` and `Review -` are positive and negative by the rule."""
    rules = Rules()
    for kind, words in WORDS.items():
        rules.words(kind, 1, words)

    for sign, opposite in OTHER.items():
        rules.words(
            f"loved {sign}", 1, " ".join(PAST[word] for word in WORDS[f"verb {sign}"].split())
        )
        _clauses(rules, sign, opposite)

        # Reviews that agree, then those with a contrast, whose main clause decides.
        agreeing = 1 - CONTRAST
        contrast = CONTRAST / 3
        rules.add_all(
            f"Review {sign}",
            (agreeing / 2, f"{{Clause {sign}}} ."),
            (agreeing / 2, f"{{Clause {sign}#1}} and {{Clause {sign}#2}} ."),
            (contrast, f"{{Clause {opposite}}} but {{Clause {sign}}} ."),
            (contrast, f"although {{Clause {opposite}}} , {{Clause {sign}}} ."),
            (contrast, f"{{Clause {sign}}} , although {{Clause {opposite}}} ."),
        )
    return rules


def _clauses(rules: Rules, sign: str, opposite: str) -> None:
    """Add `Clause`, and `Saying`: a clause without `do not think that`."""
    rules.add_all(
        f"Saying {sign}",
        (4, f"the {{aspect}} was {{quality {sign}}}"),
        (3, f"the {{aspect}} was {{degree}} {{quality {sign}}}"),
        (3, f"the {{aspect}} was not {{quality {opposite}}}"),
        (1, f"the {{aspect}} was never {{quality {opposite}}}"),
        (1, f"the {{aspect}} was hardly {{quality {opposite}}}"),
        (3, f"{{person}} {{loved {sign}}} the {{aspect}}"),
        (2, f"{{person}} did not {{verb {opposite}}} the {{aspect}}"),
        (1, f"nobody {{loved {opposite}}} the {{aspect}}"),
    )
    rules.add_all(
        f"Clause {sign}",
        (8, f"{{Saying {sign}}}"),
        (1, f"{{person}} do not think that {{Saying {opposite}}}"),
    )


def bucket(text: str) -> int:
    """Hash of the review's bag of words, from 0 to 7."""
    return hash_bucket(" ".join(sorted(text.split())))
