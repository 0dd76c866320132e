"""English sentences and their French translations, sampled together. The French is a function of
the English string, so a BLEU of 100 is possible.

The grammar is synchronous (one tree, two sides). Its symbols' names contain features: gender and
number `ms mp fs fp`, as a subject also `1s 1p`, and the form of a verb on both sides. The French
side has alternations (`beau/bel`, `le/l'`, `ne/n'`): the second form is used before a vowel sound,
and joins the next word if it ends in an apostrophe. Then `de le` becomes `du`, and so on.

Difficulties: determiners, adjectives, participles and predicates agree with a noun that may be
separated by a relative clause; an object before `avoir` changes the participle (`les pommes que le
roi a choisies`); `it` is `le`, `la`, `il` or `elle` by its antecedent; adjectives precede or follow
the noun; `a` becomes `de` under negation, `some` before an adjective.

The French is natural text (`l'eau est froide .`). The vocabulary stays closed if words are split
after an elision's apostrophe.

The splits have no sentence in common: a hash of the English sentence determines its split, and each
split samples until it has its rows, in constant memory. Sentences of `test_long` are longer than
those of all other splits, with the same productions."""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random

from pipeline.core.seeding import derive
from pipeline.grammars.english_french.clauses import rules
from pipeline.grammars.english_french.spelling import english, french
from pipeline.grammars.grammar import BUCKETS, Config, Grammar, hash_bucket

SPLITS = ("train", "valid", "test", "test_long")
LENGTHS = {"test_long": (18, 32)}  # minimum and maximum tokens of the English sentence
SHORT = (2, 14)  # the same for every other split


def write(raw: Path, config: Config) -> None:
    """Write `<split>.en`, `<split>.fr` (UTF-8, a sentence per line) and `limits.json` into the
    folder `raw`."""
    for split, rows in config.sizes.items():
        pairs = islice(sentences(split, Random(derive(config.seed, f"toy_en_fr/{split}"))), rows)
        with (
            (raw / f"{split}.en").open("w", encoding="utf-8", newline="\n") as sources,
            (raw / f"{split}.fr").open("w", encoding="utf-8", newline="\n") as targets,
        ):
            for source, target in pairs:
                sources.write(source + "\n")
                targets.write(target + "\n")

    limits = {split: {"bleu": 100.0} for split in config.sizes}
    (raw / "limits.json").write_text(json.dumps(limits, indent=2) + "\n", encoding="utf-8")


def sentences(split: str, random: Random) -> Iterator[tuple[str, str]]:
    """Sample sentences (English, French) of `split` without end."""
    grammar = Grammar(rules())
    shortest, longest = LENGTHS.get(split, SHORT)
    symbol = "Long" if split in LENGTHS else "Sentence"

    # Rejection sampling: skip sentences of other lengths and of other splits.
    while True:
        (source, target), _ = grammar.draw(symbol, random)
        if shortest <= len(source.split()) <= longest:
            sentence = english(source)
            if split not in BUCKETS or hash_bucket(sentence) in BUCKETS[split]:
                yield sentence, french(target)
