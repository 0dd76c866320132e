"""English sentences and their French, drawn together: the French is a function of the English
string, hence BLEU 100 exists.

The grammar is synchronous (one tree, two sides) and its symbols carry features as parts of their
names: gender and number `ms mp fs fp`, person `1s 1p` besides, and the form of a verb on either
side. The French side is written with alternations (`beau/bel`, `le/l'`, `ne/n'`): the second form
stands before a vowel sound, and joins the next word if it ends in an apostrophe; then `de le`
becomes `du`, and so on.

What hurts: determiners, adjectives, participles and predicates agree with a noun that may stand
before a relative clause; an object that precedes `avoir` changes the participle (`les pommes que le
roi a choisies`); `it` is `le`, `la`, `il` or `elle` by its antecedent; adjectives stand on either
side; `a` becomes `de` under negation, `some` before an adjective.

Natural French is written (`l'eau est froide .`). The vocabulary stays closed if words are cut after
an elision's apostrophe.

No sentence of one split stands in another: a hash of the English sentence says which split it may
enter, and each split draws until it has its rows, in constant memory. Sentences of `test_long` are
longer than those of all other splits, and are built from the same productions."""

import hashlib
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random

from pipeline.core.seeding import derive
from pipeline.grammars.english_french.clauses import rules
from pipeline.grammars.english_french.spelling import english, french
from pipeline.grammars.grammar import Config, Grammar

SPLITS = ("train", "valid", "test", "test_long")
# of 8: where a sentence's hash may fall
BUCKETS = {"train": range(6), "valid": range(6, 7), "test": range(7, 8)}
LENGTHS = {"test_long": (18, 32)}  # words and marks of the English sentence, least and most
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
    """(English, French) without end, all of them sentences that may stand in `split`."""
    grammar = Grammar(rules())
    least, most = LENGTHS.get(split, SHORT)
    symbol = "Long" if split in LENGTHS else "Sentence"
    while True:
        (source, target), _ = grammar.draw(symbol, random)
        if least <= len(source.split()) <= most:
            sentence = english(source)
            if split not in BUCKETS or _bucket(sentence) in BUCKETS[split]:
                yield sentence, french(target)


def _bucket(sentence: str) -> int:
    return hashlib.blake2b(sentence.encode(), digest_size=1).digest()[0] % 8
