"""Vectors from letters: n-grams and sums by loops, gradients, words that no vocabulary has."""

from pathlib import Path
from typing import Any

import fitting
import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pipeline.contracts import Sizes, Spelled
from pipeline.core import config, tables
from pipeline.core.errors import UserError
from pipeline.models.subword_vectors import fnv_hash, ngrams
from pipeline.tasks import word_vectors
from pipeline.text.specials import SPECIALS
from pipeline.training import checkpoint, loop, optim

CPU = torch.device("cpu")
BLOCK = {"dimension": 6, "shortest": 3, "longest": 6, "buckets": 50}
SEA = ["fish", "fisher", "fishing", "sail", "sailor", "sailing"]
LAND = ["bird", "birdie", "birding", "farm", "farmer", "farming"]


def build(words: list[str], **changes: Any) -> Any:
    """A model that has read the specials and these words."""
    torch.manual_seed(3)
    sizes = Sizes(len(SPECIALS) + len(words), len(SPECIALS) + len(words), True)
    model: Any = checkpoint.build("subword_vectors", BLOCK | changes, sizes, "settings.x.model")
    assert isinstance(model, Spelled)
    model.read_words([*SPECIALS, *words])
    return model


def test_ngrams_of_the_papers_example() -> None:
    """Section 3.2: <wh, whe, her, ere, re> of `where` with n = 3."""
    assert ngrams("where", 3, 3) == ["<wh", "whe", "her", "ere", "re>"]
    assert ngrams("her", 3, 3) == ["<he", "her", "er>"]
    # The whole word has a vector of its own.
    assert ngrams("her", 3, 6) == ["<he", "her", "er>", "<her", "her>"]
    assert ngrams("a", 3, 6) == []


@given(st.text("abé", min_size=1, max_size=8), st.integers(1, 4), st.integers(0, 4))
def test_ngrams_are_all_shorter_parts_of_a_marked_word(word: str, shortest: int, more: int) -> None:
    marked = f"<{word}>"
    parts = [
        marked[i:j]
        for i in range(len(marked))
        for j in range(i + 1, len(marked) + 1)
        if shortest <= j - i <= shortest + more and j - i < len(marked)
    ]
    assert sorted(ngrams(word, shortest, shortest + more)) == sorted(parts)


def test_the_hash_is_fnv_1a() -> None:
    """The test vectors of the hash's authors."""
    expected = {"": 0x811C9DC5, "a": 0xE40C292C, "foobar": 0xBF9CF968}
    assert {text: fnv_hash(text) for text in expected} == expected


def loop_vector(model: Any, weight: Tensor, number: int, word: str) -> Tensor:
    """The sum of a word's rows, one by one."""
    total = weight[number]
    for gram in ngrams(word, 3, 6):
        total = total + weight[model.words + fnv_hash(gram) % 50]
    return total


def test_vectors_and_gradients_are_those_of_an_explicit_loop() -> None:
    model = build(SEA)
    words = [*SPECIALS, *SEA]
    ids = torch.tensor([[4, 5, 4], [9, 7, 5]])
    scale = torch.from_numpy(np.random.default_rng(1).normal(size=(2, 3, 6))).float()
    vector = model.input(ids)
    (vector * scale).sum().backward()

    weight = model.pieces.weight.detach().clone().requires_grad_()
    expected = torch.stack(
        [
            torch.stack([loop_vector(model, weight, i, words[i]) for i in row])
            for row in ids.tolist()
        ]
    )
    (expected * scale).sum().backward()
    torch.testing.assert_close(vector, expected)
    torch.testing.assert_close(model.pieces.weight.grad.to_dense(), weight.grad)
    torch.testing.assert_close(model.vectors()[ids], expected)


def test_any_word_has_the_sum_of_its_ngrams() -> None:
    model = build(SEA)
    known, unknown, none = model.spell(["fisher", "fishes", "x"])
    weight = model.pieces.weight.detach()
    torch.testing.assert_close(known, model.vectors()[5] - weight[5])
    rows = [model.words + fnv_hash(gram) % 50 for gram in ngrams("fishes", 3, 6)]
    torch.testing.assert_close(unknown, weight[rows].sum(0))
    assert not none.any()
    assert model.spell([]).shape == (0, 6)


def test_a_saved_model_needs_no_words(tmp_path: Path) -> None:
    model = build(SEA)
    metadata = {
        "run": {"family": "subword_vectors", "model": BLOCK},
        "sizes": {"source": 10, "target": 10, "shared": True},
    }
    checkpoint.write_model(tmp_path, model, metadata)
    loaded: Any = checkpoint.load_model(tmp_path, CPU)
    assert torch.equal(loaded.vectors(), model.vectors())
    assert torch.equal(loaded.spell(["fishes"]), model.spell(["fishes"]))


def test_a_word_that_was_never_read_is_near_those_with_its_stem(tmp_path: Path) -> None:
    """Rows are of sea or of land alone."""
    rng = np.random.default_rng(1)
    words = [*SEA, *LAND]
    rows = [
        (len(SPECIALS) + 6 * int(rng.integers(2)) + rng.integers(0, 6, 6)).tolist()
        for _ in range(400)
    ]
    table = pa.table(
        {"row": range(len(rows)), "ids": rows, "paragraph": [0] * len(rows)},
        schema=tables.ENCODED_TEXT,
    )
    objective = {
        "method": "skip_gram",
        "window": 3,
        "negatives": 5,
        "subsample": None,
        "batch_size": 64,
        "block_size": 8,
        "noise_words": 8,
    }
    settings = config.load_objective(word_vectors, objective, "objective")
    task: Any = word_vectors.build(table, table, settings, 1, CPU)
    adagrad = {
        "name": "adagrad",
        "learning_rate": 0.1,
        "weight_decay": 0.0,
        "clip_norm": None,
        "schedule": {"name": "cosine", "warmup_steps": 0},
    }
    model = build(words, buckets=2000)
    trainer = loop.Loop(
        model,
        task,
        optim.load(adagrad, "optim"),
        fitting.epochs(3),
        seed=1,
        work=tmp_path,
        log=lambda *_: None,
    )
    trainer.run(lambda *_: None)
    vector_VD = torch.nn.functional.normalize(model.vectors()[len(SPECIALS) :], dim=-1)
    for word, own in (("fishes", slice(0, 6)), ("sails", slice(0, 6)), ("farms", slice(6, 12))):
        cosine_V = vector_VD @ model.spell([word])[0]
        other = slice(6, 12) if own.start == 0 else slice(0, 6)
        assert cosine_V[own].min() > cosine_V[other].max(), word


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"longest": 2}, "longest: got 2; expected at least shortest, 3."),
        ({"shortest": 0}, "shortest: got 0; expected at least 1."),
        ({"buckets": 0}, "buckets: got 0; expected at least 1."),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, int], line: str) -> None:
    with pytest.raises(UserError) as error:
        build([], **changes)
    assert str(error.value) == f"settings.x.model.{line}"
