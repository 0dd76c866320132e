"""The built-in pairs against a reader of their own, which shares no code with the grammar that
wrote them."""

import json
from collections import Counter, defaultdict
from functools import cache
from itertools import combinations, islice
from pathlib import Path
from random import Random

import pytest

from pipeline.grammars import grammar, toy_inference, toy_scenes

KINDS = {
    "animal": "dog cat horse",
    "person": "teacher farmer singer",
    "touches": "hugs pushes",
    "follows": "chases tracks",
}
KIND_OF = {word: kind for kind, words in KINDS.items() for word in words.split()}
QUALITIES = {"small": "size", "large": "size", "old": "age", "young": "age"}


def slots(sentence: str) -> list[str]:
    """Adjective, noun, verb, adjective and noun, by their places among the words."""
    words = sentence.split()
    assert words[0] == "the"
    assert words[-1] == "."
    second = words.index("the", 1)
    *first, verb = words[1:second]
    phrases = [first, words[second + 1 : -1]]
    assert {len(phrase) for phrase in phrases} <= {1, 2}
    subject, of_what = (phrase if len(phrase) == 2 else ["", *phrase] for phrase in phrases)
    return [*subject, verb, *of_what]


def compared(premise: str, hypothesis: str) -> str:
    """`same` or more specific, `unknown`, or `excluded`."""
    if premise == hypothesis or not hypothesis or KIND_OF.get(premise) == hypothesis:
        return "same"
    if not premise or KIND_OF.get(hypothesis) == premise:
        return "unknown"
    if hypothesis in QUALITIES and QUALITIES[premise] != QUALITIES[hypothesis]:
        return "unknown"
    return "excluded"


def relation(premise: str, hypothesis: str) -> str:
    relations = [compared(*pair) for pair in zip(slots(premise), slots(hypothesis), strict=True)]
    if "excluded" in relations:
        return "contradiction"
    return "neutral" if "unknown" in relations else "entailment"


@cache
def rows(split: str, count: int = 4000) -> list[tuple[str, str, str, str]]:
    return list(islice(toy_inference.pairs(split, Random(5)), count))


@pytest.mark.parametrize("split", toy_inference.SPLITS)
def test_the_label_before_the_noise_is_the_relation(split: str) -> None:
    for premise, hypothesis, _, label in rows(split):
        assert relation(premise, hypothesis) == label, (premise, hypothesis)


def test_labels_are_as_frequent_and_one_in_twenty_is_another() -> None:
    counts = Counter(row[3] for row in rows("train"))
    for label in ("entailment", "neutral", "contradiction"):
        assert counts[label] / 4000 == pytest.approx(1 / 3, abs=4 * (2 / 9 / 4000) ** 0.5)
    replaced = sum(label != rule for _, _, label, rule in rows("train")) / 4000
    assert replaced == pytest.approx(0.05, abs=4 * (0.05 * 0.95 / 4000) ** 0.5)


def test_no_word_or_length_of_the_hypothesis_gives_the_label_away() -> None:
    """Of each word, and of each length, a third has each label: chi-square with two degrees of
    freedom."""
    groups: dict[object, Counter[str]] = defaultdict(Counter)
    for _, hypothesis, _, label in rows("train"):
        for word in {*hypothesis.split(), len(hypothesis.split())}:
            groups[word][label] += 1
    for word, counts in groups.items():
        expected = counts.total() / 3
        if expected > 5:
            labels = ("entailment", "neutral", "contradiction")
            chi = sum((counts[label] - expected) ** 2 / expected for label in labels)
            assert chi < 16, f"{word}: {counts}"  # p = 0.0003


def test_bags_of_words_confuse_half_of_the_contradictions_with_entailments() -> None:
    exchanged = 0
    contradictions = [row for row in rows("train") if row[3] == "contradiction"]
    for premise, hypothesis, _, _ in contradictions:
        adjective_1, noun_1, verb, adjective_2, noun_2 = slots(premise)
        twin = [adjective_2, noun_2, verb, adjective_1, noun_1]
        pairs = zip(twin, slots(hypothesis), strict=True)
        exchanged += all(compared(*pair) == "same" for pair in pairs)
    share = exchanged / len(contradictions)
    assert share == pytest.approx(0.5, abs=4 * (0.25 / len(contradictions)) ** 0.5)


def test_splits_share_no_bag_of_words_of_a_hypothesis() -> None:
    bags = {
        split: {" ".join(sorted(row[1].split())) for row in rows(split)}
        for split in toy_inference.SPLITS
    }
    for first, second in combinations(bags, 2):
        assert not bags[first] & bags[second]


def test_the_file_and_its_limit(tmp_path: Path) -> None:
    sizes = {"train": 300, "valid": 20, "test": 50}
    toy_inference.write(tmp_path, grammar.Config(seed=1, sizes=sizes))
    limits = json.loads((tmp_path / "limits.json").read_text())
    for split, count in sizes.items():
        header, *lines = (tmp_path / f"{split}.tsv").read_text().splitlines()
        assert header == "label\tpremise\thypothesis"
        assert len(lines) == count
        cells = [line.split("\t") for line in lines]
        right = sum(relation(premise, hypothesis) == label for label, premise, hypothesis in cells)
        assert limits[split]["accuracy"] == pytest.approx(100 * right / count)


def test_sentences_of_a_scene_agree_and_are_of_the_same_words(tmp_path: Path) -> None:
    sizes = {"train": 30, "valid": 3, "test": 3}
    toy_scenes.write(tmp_path, grammar.Config(seed=1, sizes=sizes))
    text = (tmp_path / "train.txt").read_text(encoding="utf-8")
    paragraphs = [part.split("\n") for part in text.removesuffix("\n\n").split("\n\n")]
    assert len(paragraphs) == 30
    assert min(map(len, paragraphs)) == 2
    words = {word for row in rows("train") for word in (row[0] + " " + row[1]).split()}
    assert {word for lines in paragraphs for line in lines for word in line.split()} <= words
    for lines in paragraphs:
        nouns = {
            tuple(KIND_OF.get(slots(line)[i], slots(line)[i]) for i in (1, 4)) for line in lines
        }
        assert len(nouns) == 1
