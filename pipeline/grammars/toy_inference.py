"""Pairs of a premise and a hypothesis about one scene, whose label follows from their words and
their order; one label in twenty is another one.

A sentence says who does what to whom: `the small dog chases the teacher .` It has five slots: two
nouns, an adjective or none for each, and a verb. The rule compares each slot of the hypothesis with
that of the premise. The values of a slot are ordered from general to specific: `animal` to `dog`,
`follows` to `chases`, and no adjective to an adjective.
- contradiction: in some slot the two values exclude each other;
- neutral: else, in some slot the hypothesis is more specific than the premise;
- entailment: else.

The hypothesis is drawn before the label, and independently of it. So it alone predicts the label no
better than chance. All pairs of a bag of words in the hypothesis are in the same split.

The limit without word order: in `EXCHANGED` of all contradictions the premise is one that entails
the hypothesis with its subject and object exchanged. Another pair, as likely as this one if all
contradictions were so, has the same words on each side and is an entailment. So a model that reads
bags of words is wrong on one of each such two."""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from random import Random
from typing import NamedTuple

from pipeline.core.seeding import derive
from pipeline.grammars.grammar import BUCKETS, Config, hash_bucket

__all__ = ["SPLITS", "Config", "write"]

SPLITS = tuple(BUCKETS)
ENTAILMENT, NEUTRAL, CONTRADICTION = LABELS = ("entailment", "neutral", "contradiction")
OTHER_LABEL = 0.05  # share of labels that are not the rule's: the best expected accuracy is 0.95
EXCHANGED = 0.5  # share of the contradictions whose premise has subject and object exchanged
KEPT = 0.5  # probability that a slot that may differ does not
GENERAL_SHARE = 0.3  # of drawn nouns and verbs: the general word, such as `animal`

# General to specific values. Values of one list exclude each other, and so do those of two lists of
# one slot, except for adjectives: a dog can be small and old.
NOUNS = {"animal": ("dog", "cat", "horse"), "person": ("teacher", "farmer", "singer")}
VERBS = {"touches": ("hugs", "pushes"), "follows": ("chases", "tracks")}
ADJECTIVES = (("small", "large"), ("old", "young"))
GENERAL = {
    special: general
    for kinds in (NOUNS, VERBS)
    for general, specials in kinds.items()
    for special in specials
}
SPECIAL = NOUNS | VERBS
OPPOSITE = {word: pair[1 - i] for pair in ADJECTIVES for i, word in enumerate(pair)}


class Scene(NamedTuple):
    """The slots of a sentence; "" is an adjective that it does not have."""

    adjective_1: str
    noun_1: str
    verb: str
    adjective_2: str
    noun_2: str

    def text(self) -> str:
        """The sentence."""
        words = [
            "the",
            self.adjective_1,
            self.noun_1,
            self.verb,
            "the",
            self.adjective_2,
            self.noun_2,
            ".",
        ]
        return " ".join(word for word in words if word)

    def exchanged(self) -> "Scene":
        """The scene with subject and object exchanged, which the rule excludes: one noun is an
        animal, the other one a person."""
        return self._replace(
            adjective_1=self.adjective_2,
            noun_1=self.noun_2,
            adjective_2=self.adjective_1,
            noun_2=self.noun_1,
        )


def write(raw: Path, config: Config) -> None:
    """Write `<split>.tsv` (UTF-8; a line with the columns' names, then a pair per line) and
    `limits.json` into the folder `raw`.

    The limit is the rule's own accuracy on the split's rows, in per cent.
    """
    limits = {}
    for split, rows in config.sizes.items():
        random = Random(derive(config.seed, f"toy_inference/{split}"))
        correct = 0
        with (raw / f"{split}.tsv").open("w", encoding="utf-8", newline="\n") as file:
            file.write("label\tpremise\thypothesis\n")
            for premise, hypothesis, label, true_label in islice(pairs(split, random), rows):
                file.write(f"{label}\t{premise}\t{hypothesis}\n")
                correct += label == true_label
        limits[split] = {"accuracy": 100 * correct / rows}
    (raw / "limits.json").write_text(json.dumps(limits, indent=2) + "\n", encoding="utf-8")


def pairs(split: str, random: Random) -> Iterator[tuple[str, str, str, str]]:
    """Sample pairs of `split` (premise, hypothesis, label, the label by the rule) without end."""
    while True:
        hypothesis = scene(random)
        true_label = _choice(LABELS, random)
        premise = premise_of(hypothesis, true_label, random)
        label = true_label
        if random.random() < OTHER_LABEL:
            label = _choice([name for name in LABELS if name != true_label], random)
        if bucket(hypothesis) in BUCKETS[split]:
            yield premise.text(), hypothesis.text(), label, true_label


def scene(random: Random) -> Scene:
    """Draw a scene that says something specific."""
    while True:
        kinds = list(NOUNS)
        first = _choice(kinds, random)
        [second] = [kind for kind in kinds if kind != first]
        drawn = Scene(
            _adjective(random),
            _value(first, NOUNS, random),
            _value(_choice(list(VERBS), random), VERBS, random),
            _adjective(random),
            _value(second, NOUNS, random),
        )
        if _specific(drawn):
            return drawn


def premise_of(hypothesis: Scene, label: str, random: Random) -> Scene:
    """Draw a premise that has this relation to the hypothesis by the rule."""
    premise = _specialized(hypothesis, random)
    if label == ENTAILMENT:
        return premise
    if label == CONTRADICTION and random.random() < EXCHANGED:
        return premise.exchanged()

    # Some slots of the premise are more general than the hypothesis: of a neutral pair one at
    # least.
    slots = _specific(hypothesis)
    chosen = _choice(slots, random) if label == NEUTRAL else ""
    for slot in slots:
        if slot == chosen or random.random() > KEPT:
            premise = premise._replace(**{slot: _generalized(getattr(hypothesis, slot), random)})
    if label == NEUTRAL:
        return premise

    # One slot excludes the hypothesis.
    slot = _choice(["verb", *(name for name in slots if name != "verb")], random)
    return premise._replace(**{slot: _excluding(slot, getattr(hypothesis, slot), random)})


def bucket(hypothesis: Scene) -> int:
    """Hash of the hypothesis's bag of words, from 0 to 7."""
    return hash_bucket(" ".join(sorted(hypothesis.text().split())))


def _specific(value: Scene) -> list[str]:
    """Names of the slots that could be more general."""
    slots = zip(Scene._fields, value, strict=True)
    return [name for name, word in slots if word in GENERAL or word in OPPOSITE]


def _specialized(hypothesis: Scene, random: Random) -> Scene:
    """A scene that is as specific as the hypothesis, or more, in each slot."""
    changes = {}
    for slot, word in zip(Scene._fields, hypothesis, strict=True):
        if random.random() < KEPT:
            continue
        if word in SPECIAL:
            changes[slot] = _choice(SPECIAL[word], random)
        elif not word:
            changes[slot] = _choice(list(OPPOSITE), random)
    return hypothesis._replace(**changes)


def _generalized(word: str, random: Random) -> str:
    """A value that is more general than `word`; an adjective may become one of another list, which
    says nothing about it."""
    if word in OPPOSITE:
        unrelated = [adjective for adjective in OPPOSITE if adjective not in (word, OPPOSITE[word])]
        return "" if random.random() < KEPT else _choice(unrelated, random)
    return GENERAL[word]


def _excluding(slot: str, word: str, random: Random) -> str:
    """A value that excludes `word`."""
    if word in OPPOSITE:
        return OPPOSITE[word]
    if slot == "verb" and (word in VERBS or random.random() < KEPT):
        # Of the other kind.
        [kind] = [kind for kind in VERBS if kind != GENERAL.get(word, word)]
        return _value(kind, VERBS, random)
    return _choice([value for value in SPECIAL[GENERAL[word]] if value != word], random)


def _adjective(random: Random) -> str:
    return "" if random.random() < KEPT else _choice(list(OPPOSITE), random)


def _value(kind: str, kinds: Mapping[str, tuple[str, ...]], random: Random) -> str:
    """The kind itself, or one of its values."""
    return kind if random.random() < GENERAL_SHARE else _choice(kinds[kind], random)


def _choice(values: Sequence[str], random: Random) -> str:
    # `Random.random` alone keeps its sequence from version to version.
    return values[int(random.random() * len(values))]
