"""The built-in reviews against a reader of their own, which shares no code with the grammar that
wrote them."""

import json
from collections import Counter
from functools import cache
from itertools import combinations, islice
from pathlib import Path
from random import Random

import pytest

from pipeline.core import config
from pipeline.grammars import grammar, toy_reviewers, toy_reviews

ROOT = Path(__file__).parents[2]
PRAISE_WORDS = """
good great funny clever moving brilliant charming fresh honest superb witty gripping
love enjoy admire like praise loved enjoyed admired liked praised
"""
BLAME_WORDS = """
bad dull boring stupid weak awful clumsy stale predictable terrible silly tedious
hate dislike regret detest despise hated disliked regretted detested despised
"""
PRAISE, BLAME = set(PRAISE_WORDS.split()), set(BLAME_WORDS.split())
NEGATIONS = {"not", "never", "hardly", "nobody"}
LABELS = {1: "positive", -1: "negative"}


def clauses(text: str) -> tuple[list[str], int | None]:
    """A review's clauses in their order, and which of them decides (None where both agree, or there
    is one)."""
    body = text.removesuffix(" .")
    if body.startswith("although "):
        return body.removeprefix("although ").split(" , "), 1
    for joint, winner in ((" , although ", 0), (" but ", 1), (" and ", None)):
        if joint in body:
            return body.split(joint), winner
    return [body], None


def sign(clause: str) -> int:
    """+1 for praise, -1 for blame, turned round by every negation."""
    words = clause.split()
    charged = [word for word in words if word in PRAISE | BLAME]
    assert len(charged) == 1, clause
    return (1 if charged[0] in PRAISE else -1) * (-1) ** sum(word in NEGATIONS for word in words)


def meaning(text: str) -> str:
    said, winner = clauses(text)
    signs = [sign(clause) for clause in said]
    assert len(said) <= 2
    if winner is None:
        assert len(set(signs)) == 1, text
        return LABELS[signs[0]]
    assert signs[0] == -signs[1], text
    return LABELS[signs[winner]]


def exchanged(text: str) -> str:
    """The review with its two clauses in each other's places."""
    first, second = clauses(text)[0]
    return text.replace(first, "\0").replace(second, first).replace("\0", second)


@cache
def review_rows(split: str, rows: int = 3000) -> list[tuple[str, str, str]]:
    return list(islice(toy_reviews.reviews(split, Random(7)), rows))


@pytest.mark.parametrize("split", toy_reviews.SPLITS)
def test_label_before_flipping_matches_the_meaning(split: str) -> None:
    for text, _, meant in review_rows(split):
        assert meaning(text) == meant


def test_one_label_in_twenty_is_flipped_and_both_labels_are_as_frequent() -> None:
    rows = [row for split in toy_reviews.SPLITS for row in review_rows(split)]
    flipped = sum(label != meant for _, label, meant in rows) / len(rows)
    positive = sum(meant == "positive" for _, _, meant in rows) / len(rows)
    assert flipped == pytest.approx(0.05, abs=4 * (0.05 * 0.95 / len(rows)) ** 0.5)
    assert positive == pytest.approx(0.5, abs=4 * (0.25 / len(rows)) ** 0.5)


def test_contrasting_reviews_have_a_reordered_twin_of_opposite_label() -> None:
    """With the twin as likely (next test), a bag of words is right on half of them at most: that
    bounds every bag."""
    contrast = [text for text, _, _ in review_rows("test") if clauses(text)[1] is not None]
    for text in contrast:
        twin = exchanged(text)
        assert Counter(twin.split()) == Counter(text.split())
        assert {meaning(text), meaning(twin)} == {"positive", "negative"}
        assert toy_reviews.bucket(text) == toy_reviews.bucket(twin)
    share = len(contrast) / len(review_rows("test"))
    assert share > 0.5, "no bag of words is right by the rule on more than 1 - share / 2"
    reachable = 1 - share / 2
    assert 0.95 * reachable + 0.05 * (1 - reachable) < 0.72


def test_a_twin_is_as_likely_as_its_review() -> None:
    made = toy_reviews.rules()
    chances = {
        symbol: {
            production.texts[0]: production.weight / sum(p.weight for p in productions)
            for production in productions
        }
        for symbol, productions in made.items()
    }
    for text, chance in chances["Review +"].items():
        turned = (
            text.replace("Clause +", "\0").replace("Clause -", "Clause +").replace("\0", "Clause -")
        )
        assert chances["Review -"][turned] == chance


def test_splits_share_no_bag_of_words() -> None:
    bags = {
        split: {" ".join(sorted(text.split())) for text, _, _ in review_rows(split)}
        for split in toy_reviews.SPLITS
    }
    for one, other in combinations(bags, 2):
        assert not bags[one] & bags[other]


def test_the_vocabulary_is_closed() -> None:
    words = {
        split: {word for text, _, _ in review_rows(split) for word in text.split()}
        for split in toy_reviews.SPLITS
    }
    assert words["test"] | words["valid"] == words["train"]


def test_rows_and_limits_are_as_the_sizes_say(tmp_path: Path) -> None:
    sizes = config.section(ROOT / "params.yaml", "corpora.toy_reviews.source.builtin.sizes")
    toy_reviews.write(tmp_path, grammar.Config(seed=1, sizes=sizes))
    limits = json.loads((tmp_path / "limits.json").read_text())
    for split, rows in sizes.items():
        files = {
            label: (tmp_path / f"{split}.{label}").read_text().splitlines()
            for label in LABELS.values()
        }
        assert sum(map(len, files.values())) == rows
        right = sum(meaning(text) == label for label, texts in files.items() for text in texts)
        assert limits[split]["accuracy"] == pytest.approx(100 * right / rows)


def test_a_reviewer_says_the_same_in_every_review_and_stays_in_one_split() -> None:
    """What BERT is pre-trained on: at least two reviews, all praise or all blame, of bags of this
    split only."""
    for split in toy_reviews.SPLITS:
        written = list(islice(toy_reviewers.reviewers(split, Random(5)), 300))
        assert min(map(len, written)) == 2
        assert {len({meaning(text) for text in texts}) for texts in written} == {1}
        assert {toy_reviews.bucket(text) for texts in written for text in texts} <= set(
            grammar.BUCKETS[split]
        )
        praise = sum(meaning(texts[0]) == "positive" for texts in written) / len(written)
        assert praise == pytest.approx(0.5, abs=4 * (0.25 / len(written)) ** 0.5)


def test_reviewers_are_written_as_paragraphs_of_lines(tmp_path: Path) -> None:
    toy_reviewers.write(
        tmp_path, grammar.Config(seed=1, sizes={"train": 40, "valid": 3, "test": 3})
    )
    text = (tmp_path / "train.txt").read_text(encoding="utf-8")
    paragraphs = [paragraph.split("\n") for paragraph in text.removesuffix("\n\n").split("\n\n")]
    assert len(paragraphs) == 40
    assert all(line.endswith(" .") for lines in paragraphs for line in lines)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "test.txt",
        "train.txt",
        "valid.txt",
    ]
