"""Vectors by PPMI and SVD: dictionaries and a dense decomposition as oracles, skip-gram's loss, and
what they learn."""

import dataclasses
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.contracts import UNK, Fitted, Sizes
from pipeline.core import tables
from pipeline.core.errors import UserError
from pipeline.models import ppmi_svd
from pipeline.tasks import word_vectors
from pipeline.text.specials import SPECIALS
from pipeline.training import checkpoint

CPU = torch.device("cpu")
FIRST = len(SPECIALS)
WORDS = 12
SIZES = Sizes(FIRST + WORDS, FIRST + WORDS, True)
BLOCK: dict[str, Any] = {
    "dimension": 5,
    "window": 2,
    "dynamic": True,
    "shift": 1.0,
    "smoothing": 0.75,
    "eigenvalues": 0.5,
}
Rows = list[list[int]]


def encoded(rows: Rows) -> pa.Table:
    return pa.table(
        {"row": range(len(rows)), "ids": rows, "paragraph": [0] * len(rows)},
        schema=tables.ENCODED_TEXT,
    )


def random_rows(count: int, seed: int) -> Rows:
    """Rows whose words prefer the neighbours that they are numbered next to."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        steps = rng.integers(-2, 3, rng.integers(2, 9))
        rows.append((FIRST + (rng.integers(0, WORDS) + np.cumsum(steps)) % WORDS).tolist())
    return rows


def fitted(rows: Rows, **changes: Any) -> Any:
    model: Any = checkpoint.build("ppmi_svd", BLOCK | changes, SIZES, "settings.x.model").eval()
    model.fit(encoded(rows), encoded(rows), 1)
    return model


def counted(rows: Rows, window: int, dynamic: bool) -> Counter[tuple[int, int]]:
    """Pairs of a word and its contexts by a loop over all positions."""
    pairs: Counter[tuple[int, int]] = Counter()
    for row in rows:
        words = [word for word in row if word >= FIRST]
        for i, word in enumerate(words):
            for j, context in enumerate(words):
                distance = abs(i - j)
                if 0 < distance <= window:
                    weight = (window - distance + 1) / window if dynamic else 1.0
                    pairs[word - FIRST, context - FIRST] += weight
    return pairs


def information(rows: Rows, block: dict[str, Any]) -> Any:
    """The shifted positive mutual information, dense, by its definition."""
    pairs = counted(rows, block["window"], block["dynamic"])
    word: Counter[int] = Counter()
    context: Counter[int] = Counter()
    for (first, second), count in pairs.items():
        word[first] += count
        context[second] += count
    smoothed = {c: count ** block["smoothing"] for c, count in context.items()}
    total = sum(pairs.values())
    matrix_VV = np.zeros((WORDS, WORDS))
    for (first, second), count in pairs.items():
        joint = count / total
        apart = word[first] / total * smoothed[second] / sum(smoothed.values())
        matrix_VV[first, second] = max(math.log(joint / apart) - math.log(block["shift"]), 0)
    return matrix_VV


ROWS = st.lists(
    st.lists(st.sampled_from([UNK, *range(FIRST, FIRST + WORDS)]), min_size=1, max_size=7),
    min_size=1,
    max_size=6,
)


@settings(max_examples=40)
@given(rows=ROWS, window=st.integers(1, 9), dynamic=st.booleans())
def test_pairs_are_those_of_a_loop_over_each_row(rows: Rows, window: int, dynamic: bool) -> None:
    found = ppmi_svd.pair_counts(encoded(rows), window, dynamic, WORDS).toarray()
    expected = np.zeros((WORDS, WORDS))
    for pair, count in counted(rows, window, dynamic).items():
        expected[pair] = count
    np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize("eigenvalues", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("changes", [{}, {"shift": 2.0}, {"smoothing": 1.0, "dynamic": False}])
def test_vectors_are_those_of_a_dense_decomposition(
    changes: dict[str, Any], eigenvalues: float
) -> None:
    rows = random_rows(200, 1)
    model = fitted(rows, eigenvalues=eigenvalues, **changes)
    left_VV, singular_V, right_VV = np.linalg.svd(information(rows, BLOCK | changes))
    left_VD, singular_D, right_VD = left_VV[:, :5], singular_V[:5], right_VV[:5].T

    # Signs are free: compare products of the vectors.
    word_VD, context_VD = (
        part.weight[FIRST:].double().numpy() for part in (model.input, model.output)
    )
    wanted_VD = left_VD * singular_D**eigenvalues
    np.testing.assert_allclose(word_VD @ word_VD.T, wanted_VD @ wanted_VD.T, atol=1e-4)
    np.testing.assert_allclose(word_VD @ context_VD.T, left_VD * singular_D @ right_VD.T, atol=1e-4)
    assert not model.input.weight[:FIRST].any()


def test_the_loss_is_what_skip_gram_of_the_task_has_on_average() -> None:
    rows = random_rows(400, 1)
    model: Any = checkpoint.build(
        "ppmi_svd", BLOCK | {"shift": 2.0}, SIZES, "settings.x.model"
    ).eval()
    table = encoded(rows)
    loss = model.fit(table, table, 1)["loss"]
    objective = word_vectors.Config(
        method="skip_gram",
        window=2,
        negatives=2,
        subsample=None,
        batch_size=64,
        block_size=8,
        noise_words=16,
    )
    totals = [
        word_vectors.Task(table, table, objective, seed, CPU).validate(model)[0]
        for seed in range(30)
    ]
    values = [float(total.total) / total.tokens for total in totals]
    # Its noise is drawn by the words' counts, ours by those of their pairs: nearly the same.
    assert np.mean(values) == pytest.approx(loss, abs=4 * np.std(values) / 30**0.5 + 0.01)


def test_better_vectors_have_a_lower_loss() -> None:
    rows = random_rows(400, 1)
    losses = []
    for dimension in (1, 3, 6):
        model: Any = checkpoint.build(
            "ppmi_svd", BLOCK | {"dimension": dimension}, SIZES, "settings.x.model"
        )
        losses.append(model.fit(encoded(rows), encoded(random_rows(200, 2)), 1)["loss"])
    assert losses == sorted(losses, reverse=True)


@pytest.mark.parametrize("eigenvalues", [0.0, 0.5])
def test_dimensions_beyond_the_rank_are_zero(eigenvalues: float) -> None:
    rows = [[FIRST, FIRST + 1], [FIRST + 2, FIRST + 3]]  # two pairs, each in both orders: rank 4
    model = fitted(rows, dimension=7, eigenvalues=eigenvalues)
    assert int(model.input.weight.any(0).sum()) == 4
    products_VV = model.input.weight[FIRST:] @ model.output.weight[FIRST:].T
    expected_VV = torch.from_numpy(information(rows, BLOCK)).float()
    torch.testing.assert_close(products_VV, expected_VV, atol=1e-5, rtol=1e-5)


def test_words_that_stand_for_each_other_become_neighbours() -> None:
    """Words 0 and 1, 2 and 3, ... occur in the same places: each other's nearest neighbours."""
    rng = np.random.default_rng(1)
    rows = []
    for _ in range(600):
        topic = int(rng.integers(0, 3))
        frame = [4 * topic + 2, 4 * topic + 3]  # words 2 and 3 of the topic, in either order
        word = 4 * topic + int(rng.integers(0, 2))
        rows.append([FIRST + frame[0], FIRST + word, FIRST + frame[1]])
    model = fitted(rows, window=1, dimension=6)
    vector_VD = torch.nn.functional.normalize(model.input.weight[FIRST:])
    cosine_VV = vector_VD @ vector_VD.T
    cosine_VV.fill_diagonal_(-1)
    for topic in range(3):
        first, second = 4 * topic, 4 * topic + 1
        assert int(cosine_VV[first].argmax()) == second
        assert int(cosine_VV[second].argmax()) == first


def test_fitting_twice_gives_the_same_bytes_and_a_seed_changes_nothing(tmp_path: Path) -> None:
    rows = random_rows(100, 1)
    model: Any = checkpoint.build("ppmi_svd", BLOCK, SIZES, "settings.x.model")
    assert isinstance(model, Fitted)
    for seed in (1, 2):
        model.fit(encoded(rows), encoded(rows), seed)
        run = {"family": "ppmi_svd", "model": BLOCK}
        facts = {"run": run, "sizes": dataclasses.asdict(SIZES)}
        (tmp_path / str(seed)).mkdir()
        checkpoint.write_model(tmp_path / str(seed), model, facts)
    first, second = (tmp_path / f"{seed}/model.safetensors" for seed in (1, 2))
    assert first.read_bytes() == second.read_bytes()
    loaded: Any = checkpoint.load_model(tmp_path / "1", CPU)
    assert torch.equal(loaded.input(torch.tensor([[5, 6]])), model.input.weight[None, 5:7])


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"dimension": 0}, "dimension: got 0; expected at least 1."),
        ({"window": 0}, "window: got 0; expected at least 1."),
        ({"shift": 0.5}, "shift: got 0.5; expected at least 1, such as 5.0; 1.0 shifts nothing."),
        ({"smoothing": -0.1}, "smoothing: got -0.1; expected from 0 to 1."),
        ({"eigenvalues": 2}, "eigenvalues: got 2.0; expected from 0 to 1."),
    ],
)
def test_settings_that_make_no_model_are_refused(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError) as error:
        fitted(random_rows(10, 1), **changes)
    assert str(error.value) == f"settings.x.model.{line}"


def test_texts_that_are_too_small_are_refused() -> None:
    with pytest.raises(UserError, match="dimension: got 12; expected less than 12, the words"):
        fitted(random_rows(10, 1), dimension=12)
    with pytest.raises(
        UserError, match=r"shift: got 1000\.0, which leaves no pair of words positive"
    ):
        fitted(random_rows(10, 1), shift=1000.0)
    with pytest.raises(UserError, match="corpus: got a training text without two known words"):
        fitted([[5], [UNK, 6, UNK]])
    model: Any = checkpoint.build("ppmi_svd", BLOCK, SIZES, "settings.x.model")
    with pytest.raises(UserError, match="corpus: got a validation text without two known words"):
        model.fit(encoded(random_rows(50, 1)), encoded([[5], [UNK, 6]]), 1)
