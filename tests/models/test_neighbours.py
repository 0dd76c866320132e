"""Count models of a word's neighbours, by equations written out with dictionaries."""

import math
from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from pipeline.contracts import BOS, EOS, MASK, UNK, Prompt, Sizes
from pipeline.core import tables
from pipeline.models import neighbour_blanks, neighbour_masks
from pipeline.tasks import fill_blank
from pipeline.tasks import masked_language_model as mlm
from pipeline.training import checkpoint, fitted

CPU = torch.device("cpu")
VOCABULARY = 9
Row = list[int]


def table(rows: list[Row], paragraph: int = 1) -> pa.Table:
    """Rows, `paragraph` of them in each paragraph."""
    numbers = [row // paragraph for row in range(len(rows))]
    return pa.table(
        {"row": range(len(rows)), "ids": rows, "paragraph": numbers}, schema=tables.ENCODED_TEXT
    )


def random_rows(seed: int, count: int = 30) -> list[Row]:
    """Rows of 0 to 6 words; the last id of the vocabulary is never among them."""
    rng = np.random.default_rng(seed)
    words = [UNK, *range(4, VOCABULARY - 1)]
    return [rng.choice(words, rng.integers(0, 7)).tolist() for _ in range(count)]


class Plain:
    """The probabilities of `nn/neighbours.py` by exact fractions."""

    def __init__(self, rows: list[Row]) -> None:
        triples = []
        for row in rows:
            padded = [BOS, *row, EOS]
            triples += list(zip(padded, row, padded[2:], strict=False))
        self.counts: dict[tuple, Counter] = {}
        for left, word, right in triples:
            for context in ((), ("left", left), ("right", right), ("both", left, right)):
                self.counts.setdefault(context, Counter())[word] += 1

    def mixed(self, context: tuple, below: list[Fraction]) -> list[Fraction]:
        counts = self.counts.get(context)
        if counts is None:
            return below
        total, different = sum(counts.values()), len(counts)
        return [
            (counts[word] + different * p) / (total + different) for word, p in enumerate(below)
        ]

    def probabilities(self, left: int, right: int) -> list[Fraction]:
        alone = self.mixed((), [Fraction(1, VOCABULARY)] * VOCABULARY)
        lefts = self.mixed(("left", left), alone)
        rights = self.mixed(("right", right), alone)
        product = [a * b / p for a, b, p in zip(lefts, rights, alone, strict=True)]
        below = [value / sum(product) for value in product]
        return self.mixed(("both", left, right), below)


@pytest.mark.parametrize("seed", range(4))
def test_probabilities_are_the_written_out_ones_for_any_neighbours(seed: int) -> None:
    rows = random_rows(seed)
    model = neighbour_blanks.Model(neighbour_blanks.Config(), Sizes(VOCABULARY, VOCABULARY, True))
    model.fit(table(rows), table(rows), 1)
    plain = Plain(rows)
    # -1 is the id of a masked word, which is no neighbour that was ever counted.
    pairs = [(a, b) for a in range(-1, VOCABULARY) for b in range(-1, VOCABULARY)]
    logits_NV = model.project(torch.tensor(pairs))
    for (left, right), logits_V in zip(pairs, logits_NV, strict=True):
        exact = [float(p) for p in plain.probabilities(left, right)]
        assert logits_V.exp().tolist() == pytest.approx(exact, rel=1e-5)
        assert sum(exact) == pytest.approx(1)


def test_loss_of_fitting_is_that_of_the_task() -> None:
    train, valid = table(random_rows(1)), table(random_rows(2))
    model = neighbour_blanks.Model(neighbour_blanks.Config(), Sizes(VOCABULARY, VOCABULARY, True))
    config = fill_blank.Config(batch_tokens=100, max_length=100)
    loss, _ = fill_blank.Task(train, valid, config, 1, CPU).validate(model)
    before = float(loss.total) / loss.tokens
    assert before == pytest.approx(math.log(VOCABULARY)), "without counts all words are equal"
    metrics = model.fit(train, valid, 1)
    loss, _ = fill_blank.Task(train, valid, config, 1, CPU).validate(model)
    assert metrics["loss"] == pytest.approx(float(loss.total) / loss.tokens)
    assert metrics["loss"] < before


def test_masked_words_are_guessed_from_neighbours_and_from_what_is_shown() -> None:
    """Bayes' rule: a chosen word that is not hidden is itself, or a random word, equally often."""
    rows = random_rows(3)
    model = neighbour_masks.Model(neighbour_masks.Config(), Sizes(VOCABULARY, VOCABULARY, True))
    assert model.fit(table(rows), table(rows), 1) == {}
    plain = Plain(rows)
    # Two sentences: BOS 4 _ EOS, 7 MASK MASK EOS.
    ids = [BOS, 4, 5, EOS, 7, MASK, MASK, EOS]
    text = Prompt(torch.tensor([ids]), torch.tensor([len(ids)]))
    hidden_1SH = model.read(text, torch.tensor([[0, 0, 0, 0, 1, 1, 1, 1]]))
    probabilities = model.project(hidden_1SH[0]).exp()

    def shown(prior: list[Fraction], word: int) -> list[float]:
        joint = [
            p * (Fraction(int(w == word), 2) + Fraction(1, 2 * VOCABULARY))
            for w, p in enumerate(prior)
        ]
        return [float(p / sum(joint)) for p in joint]

    for place, expected in {
        1: shown(plain.probabilities(BOS, 5), 4),
        2: shown(plain.probabilities(4, EOS), 5),
        4: shown(plain.probabilities(BOS, MASK), 7),
        5: [float(p) for p in plain.probabilities(7, MASK)],
        6: [float(p) for p in plain.probabilities(MASK, EOS)],
    }.items():
        assert probabilities[place].tolist() == pytest.approx(expected, rel=1e-5), place
    assert torch.equal(model.follows(hidden_1SH), torch.zeros(1, 2))


def test_saved_model_guesses_the_same(tmp_path: Path) -> None:
    train = table([[4, 5, 6], [4, 5, 7], [6, 5, 4], [7, 5, 4]] * 8, 2)
    sizes = Sizes(VOCABULARY, VOCABULARY, True)
    config = mlm.Config(batch_size=4, max_length=20, max_train_pairs=None)
    task = mlm.Task(train, train, config, 1, CPU)
    model = neighbour_masks.Model(neighbour_masks.Config(), sizes)
    progress = fitted.fit(model, train, train, 1, lambda *_: None, task.validate)
    metrics = {name: value for _, _, name, value in progress.history}
    assert metrics["valid/nsp_loss"] == pytest.approx(math.log(2))
    assert metrics["valid/loss"] == pytest.approx(metrics["valid/mlm_loss"] + math.log(2))
    assert metrics["valid/perplexity"] == pytest.approx(math.exp(metrics["valid/mlm_loss"]))

    run = {"family": "neighbour_masks", "model": {}}
    facts = {"run": run, "sizes": {"source": VOCABULARY, "target": VOCABULARY, "shared": True}}
    checkpoint.write_model(tmp_path, model, facts)
    loaded = checkpoint.load_model(tmp_path, CPU)
    loss, _ = task.validate(loaded)
    assert float(loss.total) / loss.tokens == metrics["valid/loss"]
    # Counts are parameters, ids are none: 7 pairs of words and contexts alone, and so on.
    contexts = [len(part.count_E) for part in model.counts.children()]
    assert checkpoint.parameter_count(loaded) == sum(contexts)
