"""`benchmarks.bag_limit` against samples of the grammar."""

from collections import Counter
from random import Random

import numpy as np
import pytest

from benchmarks import bag_limit
from pipeline.grammars.toy_inference import LABELS, Scene, premise_of, scene

SAMPLES = 20_000
TOLERANCE = 0.02  # more than five standard errors of a share of the samples
SCENES = (
    Scene("", "dog", "chases", "old", "person"),
    Scene("small", "teacher", "touches", "", "animal"),
)


def index(value: Scene) -> tuple[int, ...]:
    return tuple(words.index(word) for words, word in zip(bag_limit.VALUES, value, strict=True))


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("hypothesis", SCENES, ids=lambda value: value.verb)
def test_probabilities_are_the_shares_of_samples(hypothesis: Scene, label: str) -> None:
    expected = bag_limit.premise_probabilities(hypothesis, label)
    assert expected.sum() == pytest.approx(1)
    random = Random(3)
    counts = Counter(index(premise_of(hypothesis, label, random)) for _ in range(SAMPLES))
    shares = np.zeros_like(expected)
    for place, count in counts.items():
        shares[place] = count / SAMPLES
    assert not shares[expected == 0].any()
    assert np.abs(shares - expected).max() < TOLERANCE
    for slot in range(shares.ndim):
        other_axes = tuple(axis for axis in range(shares.ndim) if axis != slot)
        assert np.abs((shares - expected).sum(other_axes)).max() < TOLERANCE


def test_hypotheses_are_those_that_are_drawn() -> None:
    groups = bag_limit.hypotheses()
    expected = {value: share for group in groups.values() for value, share in group}
    assert sum(expected.values()) == pytest.approx(1)
    random = Random(4)
    counts = Counter(scene(random) for _ in range(SAMPLES))
    assert counts.keys() <= expected.keys()
    for slot in range(len(Scene._fields)):
        shares: Counter[str] = Counter()
        for value, share in expected.items():
            shares[value[slot]] += share - counts[value] / SAMPLES
        assert max(map(abs, shares.values())) < TOLERANCE


def test_with_the_order_of_words_every_premise_has_one_label() -> None:
    for hypothesis in SCENES:
        each = np.array([bag_limit.premise_probabilities(hypothesis, label) for label in LABELS])
        assert ((each > 0).sum(0) <= 1).all()
        group = bag_limit.hypotheses()[bag_limit.bag_of(hypothesis)]
        bags = bag_limit.joint(group)
        # The words alone leave it open which of two noun phrases does what to the other.
        assert bags.max(0).sum() < bags.sum()
