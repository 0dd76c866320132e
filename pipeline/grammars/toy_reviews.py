"""Little reviews whose label follows from what is said, and in which order; one label in twenty is
turned round.

The rule: a clause is as good as its one word of praise or blame, turned round by each negation in
it (`not`, `never`, `hardly`, `nobody`, `do not think that`). Of two clauses joined by `and` both
agree. Of two that disagree the one that is not conceded wins: the one after `but`, and the one that
`although` does not introduce, wherever that stands.

What hurts a bag of words: a review of two clauses that disagree reads, with its clauses exchanged,
as a review of the same words, the same probability and the opposite label. So no function of the
bag is right on more than half of these, which are `CONTRAST` of all; and a split takes a bag of
words as a whole, so that no bag is met again in another split."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from random import Random

from pipeline.core.seeding import derive
from pipeline.grammars.grammar import Config, Grammar, Rules

SPLITS = ("train", "valid", "test")
# of 8: where the hash of a review's bag may fall
BUCKETS = {"train": range(6), "valid": range(6, 7), "test": range(7, 8)}
LABELS = {"+": "positive", "-": "negative"}
OTHER = {"+": "-", "-": "+"}
# share of the labels that say the opposite of the rule, so that 0.95 is the most that can be
# expected
FLIPPED = 0.05
CONTRAST = 0.6  # share of the reviews that have two clauses which disagree

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

    The limit is the accuracy, in per cent, that the rule itself has on the split's very rows.
    """
    limits = {}
    for split, rows in config.sizes.items():
        told, right = (
            islice(reviews(split, Random(derive(config.seed, f"toy_reviews/{split}"))), rows),
            0,
        )
        with ExitStack() as stack:
            files = {
                label: stack.enter_context(
                    (raw / f"{split}.{label}").open("w", encoding="utf-8", newline="\n")
                )
                for label in LABELS.values()
            }
            for text, label, meant in told:
                files[label].write(text + "\n")
                right += label == meant
        limits[split] = {"accuracy": 100 * right / rows}
    (raw / "limits.json").write_text(json.dumps(limits, indent=2) + "\n", encoding="utf-8")


def reviews(split: str, random: Random) -> Iterator[tuple[str, str, str]]:
    """(text, label, the label by the rule) without end, all of them reviews that may stand in
    `split`."""
    grammar = Grammar(rules())
    while True:
        sign = "+" if random.random() < 0.5 else "-"
        (text,), _ = grammar.draw(f"Review {sign}", random)
        said = OTHER[sign] if random.random() < FLIPPED else sign
        if bucket(text) in BUCKETS[split]:
            yield text, LABELS[said], LABELS[sign]


def rules() -> Rules:
    """The grammar: `Review +` and `Review -` are what the rule calls positive and negative."""
    rules = Rules()
    for kind, words in WORDS.items():
        rules.words(kind, 1, words)
    for sign, other in OTHER.items():
        rules.words(
            f"loved {sign}", 1, " ".join(PAST[word] for word in WORDS[f"verb {sign}"].split())
        )
        _clauses(rules, sign, other)
        same, apart = 1 - CONTRAST, CONTRAST / 3
        rules.add(f"Review {sign}", same / 2, f"{{Clause {sign}}} .")
        rules.add(f"Review {sign}", same / 2, f"{{Clause {sign}#1}} and {{Clause {sign}#2}} .")
        rules.add(f"Review {sign}", apart, f"{{Clause {other}}} but {{Clause {sign}}} .")
        rules.add(f"Review {sign}", apart, f"although {{Clause {other}}} , {{Clause {sign}}} .")
        rules.add(f"Review {sign}", apart, f"{{Clause {sign}}} , although {{Clause {other}}} .")
    return rules


def _clauses(rules: Rules, sign: str, other: str) -> None:
    """`Clause` and the plain `Saying` in it that is never denied as a whole."""
    saying = f"Saying {sign}"
    rules.add(saying, 4, f"the {{aspect}} was {{quality {sign}}}")
    rules.add(saying, 3, f"the {{aspect}} was {{degree}} {{quality {sign}}}")
    rules.add(saying, 3, f"the {{aspect}} was not {{quality {other}}}")
    rules.add(saying, 1, f"the {{aspect}} was never {{quality {other}}}")
    rules.add(saying, 1, f"the {{aspect}} was hardly {{quality {other}}}")
    rules.add(saying, 3, f"{{person}} {{loved {sign}}} the {{aspect}}")
    rules.add(saying, 2, f"{{person}} did not {{verb {other}}} the {{aspect}}")
    rules.add(saying, 1, f"nobody {{loved {other}}} the {{aspect}}")
    rules.add(f"Clause {sign}", 8, f"{{{saying}}}")
    rules.add(f"Clause {sign}", 1, f"{{person}} do not think that {{Saying {other}}}")


def bucket(text: str) -> int:
    """Of 8, by a hash of the review's bag of words."""
    bag = " ".join(sorted(text.split()))
    return hashlib.blake2b(bag.encode(), digest_size=1).digest()[0] % 8
