"""Resampling units of the benchmarks of word vectors."""

import numpy as np
import pyarrow as pa

from pipeline.core import tables
from pipeline.scoring.tasks import word_vectors
from pipeline.scoring.tasks.word_vectors import WordVectors

TOKENS = ["paris", "france", "rome", "italy", "oslo", "norway"]
QUESTIONS = [
    ("paris", "france", "rome", "italy"),
    ("rome", "italy", "oslo", "norway"),
    ("oslo", "norway", "rome", "italy"),
    ("berlin", "germany", "rome", "italy"),
    ("paris", "france", "oslo", "norway"),
]


def vectors_of(tokens: list[str]) -> WordVectors:
    numbers = np.random.default_rng(1).normal(size=(len(tokens), 3)).astype(np.float32)
    columns = [tokens, range(len(tokens)), [1] * len(tokens), numbers.tolist()]
    return WordVectors(pa.table(columns, schema=tables.VECTORS))


def scored(name: str, columns: dict[str, object]) -> pa.Table:
    rows = len(columns["item"])
    parts = {"row": range(rows), "benchmark": [name] * rows, **columns}
    arrays = [pa.array(parts[f.name], f.type) for f in tables.SCORES_VECTORS]
    return pa.table(arrays, schema=tables.SCORES_VECTORS)


def analogies(tokens: list[str]) -> pa.Table:
    words = [list(column) for column in zip(*QUESTIONS, strict=True)]
    benchmark = pa.table([["capitals"] * len(QUESTIONS), *words], schema=tables.BENCHMARK_ANALOGIES)
    return scored("analogies", word_vectors._analogies(vectors_of(tokens), benchmark))


def test_questions_with_the_same_answer_are_one_unit() -> None:
    table = analogies(TOKENS)
    assert table["block"].to_pylist() == [0, 1, 0, 1]
    assert word_vectors.units(table)[:, 0].tolist() == [2, 2]
    assert len(word_vectors.sums(table)) == 4
    found = np.array(table["predicted"].to_pylist())
    assert word_vectors.units(table)[:, 1].tolist() == [found[[0, 2]].sum(), found[[1, 3]].sum()]


def test_units_have_the_same_numbers_for_vectors_of_fewer_words() -> None:
    few = analogies(["oslo", "norway", "rome", "italy"])
    assert few["block"].to_pylist() == [1, 0]
    assert few["item"].to_pylist() == ["rome italy oslo norway", "oslo norway rome italy"]


def test_pairs_of_words_are_units_in_their_order() -> None:
    benchmark = pa.table(
        [["x", "paris", "rome"], ["paris", "rome", "oslo"], [1.0, 2.0, 3.0]],
        schema=tables.BENCHMARK_SIMILARITY,
    )
    table = scored("wordsim353", word_vectors._similarity(vectors_of(TOKENS), benchmark))
    assert table["block"].to_pylist() == [1, 2]
    assert (word_vectors.units(table) == word_vectors.sums(table)).all()
