"""N-gram language models against their definitions in exact fractions, written by themselves: from
lists of n-grams as tuples, without tables, keys or arrays."""

import math
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.contracts import EOS, Sizes
from pipeline.core import tables
from pipeline.core.errors import UserError
from pipeline.nn import smoothing
from pipeline.nn.ngram_model import Config, NgramModel
from pipeline.tasks import language_model
from pipeline.text.specials import BOS, PAD
from pipeline.training import checkpoint

VOCABULARY = 8  # 4 specials and 4 words
WORDS = list(range(4, VOCABULARY))
TOKENS = [token for token in range(VOCABULARY) if token not in (PAD, BOS)]
SIZES = Sizes(VOCABULARY, VOCABULARY, True)
BLOCK: dict[str, Any] = {
    "order": 3,
    "smoothing": "kneser_ney",
    "discounts": "estimated",
    "across_rows": True,
    "adaptive": False,
}
SMOOTHINGS = ("kneser_ney", "modified_kneser_ney", "witten_bell")
CPU = torch.device("cpu")

Gram = tuple[int, ...]
Rows = list[list[int]]
corpus = st.lists(st.lists(st.sampled_from(WORDS), max_size=7), max_size=6)


def texts(rows: Rows) -> pa.Table:
    columns = {"row": range(len(rows)), "ids": rows, "paragraph": [0] * len(rows)}
    return pa.table(columns, schema=tables.ENCODED_TEXT)


def flat(rows: Rows) -> list[int]:
    return [EOS, *(token for row in rows for token in (*row, EOS))]


def fitted(rows: Rows, valid: Rows, **changes: object) -> NgramModel:
    model = NgramModel(Config(**(BLOCK | changes)), SIZES)
    model.fit(texts(rows), texts(valid), 1)
    return model


class Definition:
    """p(token | context) from the definitions, with the discounts (or Witten-Bell's k) given.

    `read`: another text whose n-grams count too."""

    def __init__(
        self,
        rows: Rows,
        config: Config,
        parameters: list[list[float]],
        read: Sequence[int] = (),
    ) -> None:
        self.streams = [flat(rows), list(read)]
        self.config = config
        self.parameters = [[Fraction(value) for value in row] for row in parameters]
        self.probability = cache(self._probability)
        self.grams = {n: self._occurrences(n) for n in range(1, config.order + 1)}

    def history(self, before: Gram) -> Gram:
        """The tokens before a token that it may depend on."""
        if self.config.across_rows or EOS not in before:
            return before
        return before[max(place for place, token in enumerate(before) if token == EOS) :]

    def _occurrences(self, n: int) -> list[Gram]:
        found = []
        for stream in self.streams:
            for end in range(1, len(stream)):
                history = self.history(tuple(stream[:end]))
                if len(history) >= n - 1:
                    found.append((*history[len(history) - n + 1 :], stream[end]))
        return found

    @cache  # noqa: B019 - a test's object
    def counts(self, n: int) -> Counter[Gram]:
        raw = Counter(self.grams[n])
        if n == self.config.order or self.config.smoothing == "witten_bell":
            return raw
        longer = set(self.grams[n + 1])
        adjusted = Counter(gram[1:] for gram in longer)
        for gram, count in raw.items():
            if not self.config.across_rows and n > 1 and gram[0] == EOS:
                adjusted[gram] = count
        for stream in self.streams:
            if self.config.across_rows and n > 1 and len(stream) >= n:
                adjusted[tuple(stream[:n])] += 1
        return adjusted

    def _probability(self, token: int, context: Gram) -> Fraction:
        context = self.history(context)
        context = context[max(0, len(context) - self.config.order + 1) :]
        n = len(context) + 1
        lower = (
            self.probability(token, context[1:])
            if context
            else Fraction(int(token in TOKENS), len(TOKENS))
        )
        after = {gram: c for gram, c in self.counts(n).items() if gram[:-1] == context}
        total = sum(after.values())
        if not total:
            return lower

        count = after.get((*context, token), 0)
        given = self.parameters[n - 1]
        if self.config.smoothing == "witten_bell":
            weight = given[0] * len(after)
            return (count + weight * lower) / (total + weight)

        def discount(count: int) -> Fraction:
            return given[min(count, len(given)) - 1] if count else Fraction(0)

        below = sum(discount(c) for c in after.values())
        return (max(count - discount(count), Fraction(0)) + below * lower) / total


@settings(max_examples=40)
@given(corpus, corpus, st.integers(1, 4), st.sampled_from(SMOOTHINGS), st.booleans())
def test_probabilities_are_those_of_the_definition(
    rows: Rows, other: Rows, order: int, kind: str, across_rows: bool
) -> None:
    model = fitted(rows, [[4]], order=order, smoothing=kind, across_rows=across_rows)
    given = model.discounts.double().tolist()
    definition = Definition(rows, model.config, given)
    read = flat(other)
    log_probs = model.log_probs(torch.tensor(read)).tolist()
    for end in range(1, len(read)):
        expected = definition.probability(read[end], tuple(read[:end]))
        assert math.exp(log_probs[end - 1]) == pytest.approx(float(expected), rel=1e-9)

    # All tokens, after every context of the text and one that is too short.
    contexts = [tuple(read[max(0, end - order + 1) : end]) for end in range(len(read) + 1)]
    padded = [[PAD] * (order - 1 - len(c)) + list(c) for c in contexts]
    p_BV = model.distribution(np.array(padded, dtype=np.int64).reshape(len(padded), order - 1))
    for context, p_V in zip(contexts, p_BV, strict=True):
        expected = [definition.probability(token, context) for token in range(VOCABULARY)]
        assert sum(expected) == 1
        assert p_V == pytest.approx([float(value) for value in expected], rel=1e-9, abs=1e-15)


@settings(max_examples=40)
@given(corpus, corpus, st.integers(1, 4), st.sampled_from(SMOOTHINGS), st.booleans())
def test_an_adaptive_model_counts_each_token_after_its_prediction(
    rows: Rows, other: Rows, order: int, kind: str, across_rows: bool
) -> None:
    block = {"order": order, "smoothing": kind, "across_rows": across_rows, "adaptive": True}
    model = fitted(rows, [[4]], **block)
    given = model.discounts.double().tolist()
    read = flat(other)
    log_probs = model.log_probs(torch.tensor(read)).tolist()
    for end in range(1, len(read)):
        definition = Definition(rows, model.config, given, read[:end])
        expected = definition.probability(read[end], tuple(read[:end]))
        assert math.exp(log_probs[end - 1]) == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize("across_rows", [True, False])
def test_rows_are_independent_of_those_before_only_if_asked(across_rows: bool) -> None:
    model = fitted([[4, 5, 6], [4, 6, 6], [5, 4]] * 3, [[4]], across_rows=across_rows)

    def last_row(*rows: list[int]) -> list[float]:
        return model.log_probs(torch.tensor(flat(list(rows))))[-3:].tolist()

    alone, after = last_row([4, 5]), last_row([6, 6], [4, 5])
    assert (alone == after) == (not across_rows)


def test_discounts_are_estimated_as_chen_and_goodman_write() -> None:
    grams = np.repeat([1, 2, 3, 4, 9], [10, 6, 4, 3, 2]).astype(np.int32)
    y = 10 / (10 + 2 * 6)
    [[plain]] = smoothing.estimate("kneser_ney", [grams])
    assert plain == pytest.approx(y)
    [modified] = smoothing.estimate("modified_kneser_ney", [grams])
    expected = [1 - 2 * y * 6 / 10, 2 - 3 * y * 4 / 6, 3 - 4 * y * 3 / 4]
    assert modified == pytest.approx(expected)
    [few] = smoothing.estimate("modified_kneser_ney", [grams[grams > 1]])
    assert tuple(few) == smoothing.FALLBACK, "no n-gram occurs once"
    assert smoothing.estimate("witten_bell", [grams]).tolist() == [[1.0]]


@pytest.mark.parametrize("kind", SMOOTHINGS)
@pytest.mark.parametrize("across_rows", [True, False])
def test_no_small_change_of_chosen_discounts_lowers_the_validation_loss(
    kind: str, across_rows: bool
) -> None:
    rng = np.random.default_rng(5)

    def sample(count: int) -> Rows:
        return [
            rng.choice(WORDS, rng.integers(2, 12), p=[0.5, 0.3, 0.15, 0.05]).tolist()
            for _ in range(count)
        ]

    rows, valid = sample(60), sample(40)
    block = {"smoothing": kind, "across_rows": across_rows, "order": 3}
    chosen = fitted(rows, valid, discounts="validation", **block)
    ids = torch.tensor(flat(valid))

    def loss(model: NgramModel) -> float:
        return float(-model.log_probs(ids).mean())

    least = loss(chosen)
    assert least < loss(fitted(rows, valid, **block))
    for n in range(3):
        for p, largest in enumerate(smoothing.most(kind)):
            for factor in (0.8, 0.97, 1.03, 1.25):
                other = fitted(rows, valid, **block)
                other.discounts.copy_(chosen.discounts)
                value = float(chosen.discounts[n, p]) * factor
                other.discounts[n, p] = min(max(value, smoothing.LEAST), largest)
                other.__dict__.pop("tables", None)
                assert loss(other) > least - 1e-5


def test_a_saved_model_is_the_same_model(tmp_path: Path) -> None:
    block = {"order": 3, "smoothing": "modified_kneser_ney", "discounts": "validation"}
    block |= {"across_rows": False, "adaptive": False}
    model = checkpoint.build("ngram_lm", block, SIZES, "model")
    loss = model.fit(texts([[4, 5, 6, 4], [5, 6]]), texts([[4, 5]]), 1)["loss"]
    facts = {
        "run": {"family": "ngram_lm", "model": block},
        "sizes": {"source": VOCABULARY, "target": VOCABULARY, "shared": True},
    }
    checkpoint.write_model(tmp_path, model, facts)
    loaded = checkpoint.load_model(tmp_path, CPU)
    nats, count = language_model.likelihood(loaded, texts([[4, 5]]), None, CPU)
    assert nats.sum() / count.sum() == pytest.approx(loss, rel=1e-12)
    assert count.tolist() == [3]
    grams = sum(len(buffer) for name, buffer in loaded.named_buffers() if name.startswith("counts"))
    assert checkpoint.parameter_count(loaded) == grams + 9, "n-grams and discounts, no keys"


@pytest.mark.parametrize("order", [0, 33])
def test_an_order_out_of_range_is_refused(order: int) -> None:
    with pytest.raises(UserError, match=f"model.order: got {order}; expected from 1 to 32"):
        checkpoint.build("ngram_lm", BLOCK | {"order": order}, SIZES, "model")
