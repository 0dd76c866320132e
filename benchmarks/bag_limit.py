"""The best accuracy on `toy_inference` of a model that does not read the order of words.

    python -m benchmarks.bag_limit [TSV]

It is computed from the grammar's exact probabilities. With a file of pairs, such as
data/raw/toy_inference/test.tsv, the accuracy on its labels is printed as well."""

import argparse
import csv
import itertools
from collections import defaultdict
from functools import reduce
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.grammars.toy_inference import (
    CONTRADICTION,
    ENTAILMENT,
    EXCHANGED,
    GENERAL,
    GENERAL_SHARE,
    KEPT,
    LABELS,
    NEUTRAL,
    NOUNS,
    OPPOSITE,
    OTHER_LABEL,
    SPECIAL,
    VERBS,
    Scene,
)

Floats = NDArray[np.float64]
Bag = tuple[str, ...]
KINDS = (None, NOUNS, VERBS, None, NOUNS)
VALUES = [
    [word for name, words in kinds.items() for word in (name, *words)] if kinds else ["", *OPPOSITE]
    for kinds in KINDS
]
VERB = Scene._fields.index("verb")


def bag_of(words: tuple[str, ...]) -> Bag:
    """The words of the slots without their order."""
    return tuple(sorted(word for word in words if word))


BAGS: dict[Bag, int] = {}
BAG_OF_SCENE = np.array(
    [BAGS.setdefault(bag_of(words), len(BAGS)) for words in itertools.product(*VALUES)]
)


def _one_of(slot: int, words: tuple[str, ...]) -> Floats:
    """Equal probabilities of the words, over the slot's values."""
    return np.array([words.count(value) / len(words) for value in VALUES[slot]])


def _kept_or(slot: int, word: str, changed: Floats) -> Floats:
    return KEPT * _one_of(slot, (word,)) + (1 - KEPT) * changed


def _specialized(slot: int, word: str) -> Floats:
    if word in SPECIAL:
        return _kept_or(slot, word, _one_of(slot, SPECIAL[word]))
    if not word:
        return _kept_or(slot, word, _one_of(slot, tuple(OPPOSITE)))
    return _one_of(slot, (word,))


def _generalized(slot: int, word: str) -> Floats:
    if word in OPPOSITE:
        unrelated = tuple(name for name in OPPOSITE if name not in (word, OPPOSITE[word]))
        return _kept_or(slot, "", _one_of(slot, unrelated))
    return _one_of(slot, (GENERAL[word],))


def _drawn(slot: int, kind: str) -> Floats:
    special = _one_of(slot, SPECIAL[kind])
    return GENERAL_SHARE * _one_of(slot, (kind,)) + (1 - GENERAL_SHARE) * special


def _excluding(slot: int, word: str) -> Floats:
    if word in OPPOSITE:
        return _one_of(slot, (OPPOSITE[word],))
    kind = GENERAL.get(word, word)
    siblings = tuple(value for value in SPECIAL[kind] if value != word)
    if slot != VERB:
        return _one_of(slot, siblings)
    [other_kind] = [name for name in VERBS if name != kind]
    of_other_kind = _drawn(slot, other_kind)
    if word in VERBS:
        return of_other_kind
    return KEPT * of_other_kind + (1 - KEPT) * _one_of(slot, siblings)


def _product(slots: list[Floats]) -> Floats:
    return reduce(np.multiply.outer, slots)


def specific_slots(hypothesis: Scene) -> list[int]:
    """The slots whose words could be more general."""
    return [i for i, word in enumerate(hypothesis) if word in GENERAL or word in OPPOSITE]


def premise_probabilities(hypothesis: Scene, label: str) -> Floats:
    """The probability of every premise, an axis for each slot in the order of `VALUES`."""
    specific = specific_slots(hypothesis)
    specialized = [_specialized(slot, word) for slot, word in enumerate(hypothesis)]
    if label == ENTAILMENT:
        return _product(specialized)
    mixed = list(specialized)
    for slot in specific:
        general = _generalized(slot, hypothesis[slot])
        mixed[slot] = KEPT * specialized[slot] + (1 - KEPT) * general

    def with_slot(slot: int, values: Floats) -> Floats:
        return _product([*mixed[:slot], values, *mixed[slot + 1 :]])

    if label == NEUTRAL:
        forced = [with_slot(slot, _generalized(slot, hypothesis[slot])) for slot in specific]
        mean: Floats = np.stack(forced).mean(0)
        return mean
    assert label == CONTRADICTION
    exchanged: Floats = _product(specialized).transpose(3, 4, 2, 0, 1)
    slots = [VERB, *(slot for slot in specific if slot != VERB)]
    excluded = [with_slot(slot, _excluding(slot, hypothesis[slot])) for slot in slots]
    mean = np.stack(excluded).mean(0)
    return EXCHANGED * exchanged + (1 - EXCHANGED) * mean


def hypotheses() -> dict[Bag, list[tuple[Scene, float]]]:
    """All hypotheses with their probabilities, by bag."""
    adjective = _kept_or(0, "", _one_of(0, tuple(OPPOSITE)))
    noun, verb = (
        np.stack([_drawn(slot, kind) for kind in kinds]).mean(0)
        for slot, kinds in ((1, NOUNS), (2, VERBS))
    )
    weights = _product([adjective, noun, verb, adjective, noun]).ravel()
    kind = {word: name for name, words in NOUNS.items() for word in (name, *words)}
    scenes = [
        (Scene(*words), float(weight))
        for words, weight in zip(itertools.product(*VALUES), weights, strict=True)
        if kind[words[1]] != kind[words[4]] and specific_slots(Scene(*words))
    ]
    total = sum(weight for _, weight in scenes)
    groups = defaultdict(list)
    for scene, weight in scenes:
        groups[bag_of(scene)].append((scene, weight / total))
    return groups


def joint(group: list[tuple[Scene, float]]) -> Floats:
    """The probability of each label by the rule (rows) with each bag of a premise (columns)."""
    bags = np.zeros((len(LABELS), len(BAGS)))
    for scene, weight in group:
        for row, label in enumerate(LABELS):
            premises = premise_probabilities(scene, label).ravel()
            bags[row] += weight / len(LABELS) * np.bincount(BAG_OF_SCENE, premises, len(BAGS))
    return bags


def accuracy_of_labels(path: Path, groups: dict[Bag, list[tuple[Scene, float]]]) -> float:
    """The share of the file's labels that the most probable label of the two bags has."""
    best: dict[Bag, NDArray[np.intp]] = {}
    right = []
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            premise, hypothesis = (
                bag_of(tuple(word for word in row[side].split() if word not in ("the", ".")))
                for side in ("premise", "hypothesis")
            )
            if hypothesis not in best:
                best[hypothesis] = joint(groups[hypothesis]).argmax(0)
            right.append(LABELS[best[hypothesis][BAGS[premise]]] == row["label"])
    return float(np.mean(right))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, metavar="TSV")
    arguments = parser.parse_args()
    groups = hypotheses()
    rule = sum(float(joint(group).max(0).sum()) for group in groups.values())
    chance = OTHER_LABEL / (len(LABELS) - 1)
    print(f"expected accuracy: {100 * (rule * (1 - OTHER_LABEL) + (1 - rule) * chance):.2f} %")
    if arguments.file is not None:
        print(f"accuracy on the file: {100 * accuracy_of_labels(arguments.file, groups):.2f} %")


if __name__ == "__main__":
    main()
