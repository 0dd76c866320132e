"""Short stories with the exact log-probability of each sentence given all previous sentences.

A paragraph is about one hero, whom its first sentence names (`once upon a time a brave king lived
in the tower .`). The hero determines a topic (beings, things, verbs, adjectives and places) and a
gender for all later sentences. After each sentence the paragraph ends with probability
`PARAGRAPH_END`; the log-probability of that choice is part of the next sentence's. Every string has
exactly one derivation, so a derivation's probability is the string's.

Difficulties for an n-gram: a verb agrees with a subject before a relative clause or a place; `he`
and `she`, and the possible words, depend on a sentence several sentences back; the verb of a
question is in its base form."""

import json
import math
from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import islice
from pathlib import Path
from random import Random
from typing import NamedTuple

import pyarrow as pa

from pipeline.core import tables
from pipeline.core.seeding import derive
from pipeline.grammars.grammar import Config, Grammar, Rules

SPLITS = ("train", "valid", "test")
PARAGRAPH_END = 0.15
BATCH = 16384  # rows in memory at a time


class Topic(NamedTuple):
    """The words of a topic; each word belongs to one class of one topic."""

    he: str
    she: str
    being: str
    thing: str
    transitive: str
    intransitive: str
    adjective: str
    place: str


TOPICS = {
    "castle": Topic(
        he="king prince knight",
        she="queen princess witch",
        being="dragon servant jester guard horse minstrel",
        thing="crown sword throne banner shield jewel goblet ring",
        transitive="defend honour serve fear obey command",
        intransitive="kneel bow reign duel",
        adjective="royal noble golden cruel brave proud",
        place="tower dungeon courtyard chapel",
    ),
    "sea": Topic(
        he="captain sailor pirate",
        she="mermaid siren swimmer",
        being="whale shark dolphin crab gull seal",
        thing="anchor net mast pearl shell oar raft compass",
        transitive="chase hunt rescue spot haul hook",
        intransitive="dive drift float surf",
        adjective="wet salty deep blue stormy slippery",
        place="harbour cave lagoon bay",
    ),
    "farm": Topic(
        he="farmer shepherd miller",
        she="milkmaid grandmother girl",
        being="cow goat hen pig lamb donkey",
        thing="plough barrow bucket carrot cabbage pumpkin cheese cart",
        transitive="feed tend pull herd move wake",
        intransitive="graze bleat snore snort",
        adjective="muddy fat woolly ripe lazy hungry",
        place="barn stable meadow orchard",
    ),
    "city": Topic(
        he="policeman baker tailor",
        she="nurse waitress teacher",
        being="tourist student clerk driver neighbour cyclist",
        thing="ticket newspaper lamp bicycle coat suitcase clock letter",
        transitive="visit paint repair phone admire photograph",
        intransitive="commute shop queue gossip",
        adjective="modern busy noisy clever rich fashionable",
        place="museum station theatre bakery",
    ),
}
PRONOUNS = {"he": ("he", "him", "his"), "she": ("she", "her", "her")}
FUNCTION = "once upon a time lived in when because does do that . , ?"
BE = {"sg": "is", "pl": "are"}
COMMON = {  # words of no topic, by class
    "adjective": "small big young happy strange quiet",
    "transitive": "see like need remember",
    "adverb": "often always never slowly gladly today",
    "determiner sg": "the this every another one",
    "determiner pl": "the these some many two",
    "preposition": "near behind beside",
}


class Sentence(NamedTuple):
    """One row: its paragraph's number within the split, and log P(text | all previous sentences) in
    nats."""

    text: str
    paragraph: int
    log_prob: float


def write(raw: Path, config: Config) -> None:
    """Write `<split>.parquet` (tables.RAW_TEXT), `limits.json` and `benchmarks/classes.parquet`
    into the folder `raw`."""
    limits = {}
    for split, rows in config.sizes.items():
        nats = 0.0
        sentences = islice(stories(Random(derive(config.seed, f"toy_story/{split}"))), rows)
        with tables.writer(raw / f"{split}.parquet", tables.RAW_TEXT) as writer:
            while batch := list(islice(sentences, BATCH)):
                nats -= math.fsum(sentence.log_prob for sentence in batch)
                text, paragraph, log_prob = zip(*batch, strict=True)
                columns = [text, paragraph, log_prob, pa.nulls(len(batch), pa.string())]
                writer.write_batch(pa.record_batch(columns, schema=tables.RAW_TEXT))
        limits[split] = {"nats": nats, "rows": rows}

    (raw / "limits.json").write_text(json.dumps(limits, indent=2) + "\n", encoding="utf-8")
    (raw / "benchmarks").mkdir()
    tables.write(raw / "benchmarks" / "classes.parquet", exchangeable())


def stories(random: Random) -> Iterator[Sentence]:
    """Sample sentences without end."""
    grammar = Grammar(rules())
    cast = heroes()
    paragraph = 0
    # log P(the last paragraph ends here); the first sentence begins a paragraph for sure.
    boundary = 0.0
    while True:
        hero = cast[int(random.random() * len(cast))]
        (text,), log_prob = grammar.draw(f"Opening {hero}", random)
        yield Sentence(text, paragraph, boundary - math.log(len(cast)) + log_prob)

        while random.random() >= PARAGRAPH_END:
            (text,), log_prob = grammar.draw(f"Sentence {hero}", random)
            yield Sentence(text, paragraph, math.log1p(-PARAGRAPH_END) + log_prob)

        paragraph += 1
        boundary = math.log(PARAGRAPH_END)


def heroes() -> list[str]:
    """All heroes; a paragraph's hero is drawn uniformly."""
    return [hero for topic in TOPICS.values() for hero in f"{topic.he} {topic.she}".split()]


@cache
def word_classes() -> dict[str, str]:
    """Class of every word, e.g. `castle being pl`; words of one class can replace each other."""
    classes = dict.fromkeys(FUNCTION.split(), "function")
    classes |= {word: "pronoun" for forms in PRONOUNS.values() for word in forms} | dict.fromkeys(
        BE.values(), "be"
    )
    for kind, words in COMMON.items():
        classes |= _inflected(kind, words)
    for name, topic in TOPICS.items():
        for kind, words in topic._asdict().items():
            classes |= _inflected(f"{name} {kind}", words)
    return classes


def exchangeable() -> pa.Table:
    """`tables.BENCHMARK_CLASSES`: the words with another word in their class, except function
    words."""
    classes = {word: name for word, name in word_classes().items() if name != "function"}
    sizes = Counter(classes.values())
    shared = {word: name for word, name in classes.items() if sizes[name] > 1}
    return pa.table([list(shared), list(shared.values())], schema=tables.BENCHMARK_CLASSES)


def rules() -> Rules:
    """Build the grammar: `Opening HERO` and `Sentence HERO` for every hero."""
    rules = Rules()
    for kind in ("adverb", "determiner sg", "determiner pl", "preposition"):
        rules.words(kind, 1, COMMON[kind])

    for name, topic in TOPICS.items():
        _lexicon(rules, name, topic)
        _noun_phrases(rules, name)
        for gender, words in (("he", topic.he), ("she", topic.she)):
            _verb_phrases(rules, name, gender)
            for hero in words.split():
                _sentences(rules, name, gender, hero)
    return rules


def _lexicon(rules: Rules, name: str, topic: Topic) -> None:
    for number in ("sg", "pl"):
        rules.words(f"being {number} {name}", 1, _numbered(topic.being, number == "pl"))
        rules.words(
            f"intransitive {number} {name}", 1, _numbered(topic.intransitive, number == "sg")
        )
        rules.words(f"transitive {number} {name}", 2, _numbered(topic.transitive, number == "sg"))
        rules.words(
            f"transitive {number} {name}", 1, _numbered(COMMON["transitive"], number == "sg")
        )
    rules.words(f"thing {name}", 1, topic.thing)
    rules.words(f"place {name}", 1, topic.place)
    rules.words(f"adjective {name}", 2, topic.adjective)
    rules.words(f"adjective {name}", 1, COMMON["adjective"])


def _noun_phrases(rules: Rules, t: str) -> None:
    """Add `Thing` and `Light n`, without modifiers after the noun, and `Subject n`, with a place or
    relative clause between the head and its verb."""
    rules.add_all(
        f"Thing {t}",
        (3, f"{{determiner sg}} {{thing {t}}}"),
        (2, f"{{determiner sg}} {{adjective {t}}} {{thing {t}}}"),
    )
    for n in ("sg", "pl"):
        rules.add_all(
            f"Light {n} {t}",
            (3, f"{{determiner {n}}} {{being {n} {t}}}"),
            (2, f"{{determiner {n}}} {{adjective {t}}} {{being {n} {t}}}"),
        )
        rules.add_all(
            f"Subject {n} {t}",
            (10, f"{{Light {n} {t}}}"),
            (4, f"{{Light {n} {t}}} {{preposition}} the {{place {t}}}"),
            # Relative clauses with a subject gap, and with an object gap.
            (3, f"{{Light {n} {t}}} that {{transitive {n} {t}}} {{Thing {t}}}"),
            (2, f"{{Light {n} {t}#1}} that {{Light sg {t}#2}} {{transitive sg {t}}}"),
            (2, f"{{Light {n} {t}#1}} that {{Light pl {t}#2}} {{transitive pl {t}}}"),
        )


def _verb_phrases(rules: Rules, t: str, gender: str) -> None:
    """Add `Act n` and `Predicate n` of the hero (`own`) and of all others (`other`), who alone may
    act on the hero."""
    pronoun, objective, possessive = PRONOUNS[gender]
    for who in ("own", "other"):
        patient = f"Object {who} {t} {gender}"
        rules.add_all(
            patient,
            (4, f"{{Thing {t}}}"),
            (2, f"{{Light sg {t}}}"),
            (2, f"{{Light pl {t}}}"),
            (2, f"{possessive} {{thing {t}}}"),
        )
        if who == "other":
            rules.add(patient, 2, objective)
        for n in ("sg", "pl"):
            rules.add_all(
                f"Act {who} {n} {t} {gender}",
                (2, f"{{intransitive {n} {t}}}"),
                (2, f"{{intransitive {n} {t}}} {{adverb}}"),
                (2, f"{{intransitive {n} {t}}} in the {{place {t}}}"),
                (7, f"{{transitive {n} {t}}} {{{patient}}}"),
                (2, f"{{transitive {n} {t}}} {{{patient}}} {{adverb}}"),
            )
            rules.add_all(
                f"Predicate {who} {n} {t} {gender}",
                (5, f"{{Act {who} {n} {t} {gender}}}"),
                (1, f"{BE[n]} {{adjective {t}}}"),
            )

    rules.add_all(
        f"Clause other {t} {gender}",
        (1, f"{{Subject sg {t}}} {{Predicate other sg {t} {gender}}}"),
        (1, f"{{Subject pl {t}}} {{Predicate other pl {t} {gender}}}"),
    )
    rules.add(f"Clause own {t} {gender}", 1, f"{pronoun} {{Predicate own sg {t} {gender}}}")
    rules.add_all(
        f"Question {t} {gender}",
        (2, f"does {pronoun} {{Act own pl {t} {gender}}} ?"),
        (1, f"does {{Light sg {t}}} {{Act other pl {t} {gender}}} ?"),
        (1, f"do {{Light pl {t}}} {{Act other pl {t} {gender}}} ?"),
    )


def _sentences(rules: Rules, t: str, gender: str, hero: str) -> None:
    rules.add_all(
        f"Opening {hero}",
        (1, f"once upon a time a {hero} lived in the {{place {t}}} ."),
        (2, f"once upon a time a {{adjective {t}}} {hero} lived in the {{place {t}}} ."),
    )
    rules.add_all(
        f"Clause {hero}",
        (5, f"{{Clause other {t} {gender}}}"),
        (3, f"{{Clause own {t} {gender}}}"),
        (1, f"the {hero} {{Predicate own sg {t} {gender}}}"),
    )
    rules.add_all(
        f"Sentence {hero}",
        (14, f"{{Clause {hero}}} ."),
        (2, f"when {{Clause {hero}#1}} , {{Clause {hero}#2}} ."),
        (2, f"{{Clause {hero}#1}} because {{Clause {hero}#2}} ."),
        (2, f"{{Question {t} {gender}}}"),
    )


def _numbered(words: str, with_s: bool) -> str:
    return " ".join(word + "s" for word in words.split()) if with_s else words


def _inflected(kind: str, words: str) -> dict[str, str]:
    """Class of each form of the words: nouns take -s in the plural, verbs in the singular."""
    numbers = {
        "being": ("sg", "pl"),
        "transitive": ("pl", "sg"),
        "intransitive": ("pl", "sg"),
    }
    part_of_speech = kind.split()[-1]
    if part_of_speech not in numbers:
        return dict.fromkeys(words.split(), kind)

    base, with_s = numbers[part_of_speech]
    classes = dict.fromkeys(words.split(), f"{kind} {base}")
    return classes | {word + "s": f"{kind} {with_s}" for word in words.split()}
