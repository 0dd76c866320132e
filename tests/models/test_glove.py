"""GloVe: counts by loops, the dense loss and its gradient in NumPy, what it learns, and what it
refuses."""

from collections import Counter
from pathlib import Path
from typing import Any

import fitting
import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.contracts import UNK, Sizes
from pipeline.core import config, tables
from pipeline.core.errors import UserError
from pipeline.models import glove, ppmi_svd, subword_vectors, word2vec
from pipeline.nn.cooccurrence import PairBatch, count_pairs, glove_loss
from pipeline.tasks import word_vectors
from pipeline.text.specials import SPECIALS
from pipeline.training import families, loop, optim

CPU = torch.device("cpu")
FIRST = len(SPECIALS)
GLOVE = {"method": "glove", "window": 2, "most": 10.0, "power": 0.75, "batch_size": 64}
SKIP_GRAM = {
    "method": "skip_gram",
    "window": 2,
    "negatives": 5,
    "subsample": None,
    "batch_size": 16,
    "block_size": 4,
    "noise_words": 6,
}
Rows = list[list[int]]


def encoded(rows: Rows) -> pa.Table:
    return pa.table(
        {"row": range(len(rows)), "ids": rows, "paragraph": [0] * len(rows)},
        schema=tables.ENCODED_TEXT,
    )


def objective(**changes: Any) -> Any:
    return config.load_objective(word_vectors, GLOVE | changes, "objective")


def random_model(words: int, dimension: int = 5) -> Any:
    torch.manual_seed(3)
    sizes = Sizes(FIRST + words, FIRST + words, True)
    model = glove.Model(glove.Config(dimension=dimension), sizes)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    return model


@settings(deadline=None)
@given(
    rows=st.lists(st.lists(st.integers(UNK, FIRST + 5), max_size=7), min_size=1, max_size=5),
    window=st.integers(1, 4),
)
def test_pairs_are_counted_by_one_over_their_distance(rows: Rows, window: int) -> None:
    expected: Counter[tuple[int, int]] = Counter()
    for row in rows:
        known = [word for word in row if word >= FIRST]
        for i, word in enumerate(known):
            for j in range(max(i - window, 0), min(i + window, len(known) - 1) + 1):
                if i != j:
                    expected[word, known[j]] += 1 / abs(i - j)

    pairs = count_pairs(*word_vectors.known_words(encoded(rows)), window)
    counts = dict(zip(zip(*(c.tolist() for c in pairs[:2]), strict=True), pairs[2], strict=True))
    assert counts == pytest.approx(dict(expected))


def test_the_loss_and_its_gradient_are_those_of_equation_8() -> None:
    words = 6
    rng = np.random.default_rng(1)
    count_VV = rng.integers(0, 20, (words, words)).astype(float)
    model = random_model(words).double()
    w, w_out, b, b_out = (
        p.detach().numpy()[FIRST:]
        for p in (
            model.input.weight,
            model.output.weight,
            model.input_bias.weight,
            model.output_bias.weight,
        )
    )

    # Pairs that never occur have no weight, and no logarithm.
    log_VV = np.log(np.where(count_VV > 0, count_VV, 1))
    weight_VV = np.where(count_VV < 10, (count_VV / 10) ** 0.75, 1.0) * (count_VV > 0)
    error_VV = w @ w_out.T + b + b_out.T - log_VV
    expected = (weight_VV * error_VV**2).sum()

    word_P, context_P = np.nonzero(count_VV)
    batch = PairBatch(
        torch.from_numpy(word_P + FIRST),
        torch.from_numpy(context_P + FIRST),
        torch.from_numpy(count_VV[word_P, context_P]),
    )
    loss = glove_loss(model, batch, 10.0, 0.75)
    assert loss.total.item() == pytest.approx(expected)
    assert loss.tokens == len(word_P)

    loss.total.backward()  # type: ignore[no-untyped-call]
    slope_VV = 2 * weight_VV * error_VV
    gradients = {
        "input": slope_VV @ w_out,
        "output": slope_VV.T @ w,
        "input_bias": slope_VV.sum(1, keepdims=True),
        "output_bias": slope_VV.sum(0)[:, None],
    }
    for name, gradient in gradients.items():
        actual = getattr(model, name).weight.grad.to_dense().numpy()[FIRST:]
        np.testing.assert_allclose(actual, gradient, rtol=1e-9, err_msg=name)


def test_an_epoch_has_each_pair_once_and_validation_counts_are_scaled() -> None:
    rows = [[4, 5, 6, 4, 7], [5, 6]]
    task: Any = word_vectors.build(
        encoded(rows * 3), encoded(rows), objective(batch_size=4), 1, CPU
    )
    batches = [task.batch(planned) for planned in task.plan(1)]
    drawn = sorted((int(w), int(c)) for batch in batches for w, c in zip(*batch[:2], strict=True))
    assert drawn == sorted(zip(*(column.tolist() for column in task.train[:2]), strict=True))
    np.testing.assert_allclose(task.valid.count_P, task.train.count_P)


def test_words_with_the_same_neighbours_become_neighbours(tmp_path: Path) -> None:
    """Words 0 to 9: a word of 0 to 4 is followed by one of 5 to 9 only, and the reverse."""
    rng = np.random.default_rng(1)
    rows = []
    for _ in range(400):
        sides = np.arange(8) % 2
        rows.append((FIRST + rng.integers(0, 5, 8) + 5 * sides).tolist())
    torch.manual_seed(1)
    model = glove.Model(glove.Config(dimension=4), Sizes(FIRST + 10, FIRST + 10, True))
    task: Any = word_vectors.build(encoded(rows), encoded(rows), objective(window=1), 1, CPU)
    adagrad = {
        "name": "adagrad",
        "learning_rate": 0.3,
        "weight_decay": 0.0,
        "clip_norm": None,
        "schedule": {"name": "cosine", "warmup_steps": 0},
    }
    trainer = loop.Loop(
        model,
        task,
        optim.load(adagrad, "optim"),
        fitting.epochs(25),
        seed=1,
        work=tmp_path,
        log=lambda *_: None,
    )
    before = float(task.validate(model)[0].total)
    trainer.run(lambda *_: None)
    assert float(task.validate(model)[0].total) < 0.05 * before

    # Tables of words and contexts agree: a word is like the words that could stand in its place.
    with torch.no_grad():
        logs_VV = model.input.weight @ model.output.weight.T
        logs_VV = logs_VV + model.input_bias.weight + model.output_bias.weight.T
    near = logs_VV[FIRST : FIRST + 5, FIRST + 5 :].mean()
    pairs = task.train
    expected = np.log(pairs.count_P[pairs.word_P < FIRST + 5]).mean()
    assert float(near) == pytest.approx(expected, abs=0.1)
    torch.testing.assert_close(model.vectors(), model.input.weight + model.output.weight)


def test_each_family_has_its_objective() -> None:
    skip_gram = config.load_objective(word_vectors, SKIP_GRAM, "objective")
    for family in (word2vec, subword_vectors):
        families.refuse_other_objective(word_vectors, family.Model, skip_gram, "objective")
        with pytest.raises(UserError) as error:
            families.refuse_other_objective(word_vectors, family.Model, objective(), "objective")
        name = family.__name__.rpartition(".")[2]
        assert str(error.value) == (
            f"objective.method: got glove; expected skip_gram or cbow for {name}."
        )
    families.refuse_other_objective(word_vectors, glove.Model, objective(), "objective")
    with pytest.raises(UserError) as error:
        families.refuse_other_objective(word_vectors, glove.Model, skip_gram, "objective")
    assert str(error.value) == "objective.method: got skip_gram; expected glove for glove."
    assert families.supports(ppmi_svd.Model, word_vectors.MODELS)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"method": "glov"},
            "objective.method: got glov; expected one of glove, skip_gram, cbow. ",
        ),
        ({"most": 0}, "objective.most: got 0.0; expected above 0."),
        ({"power": -1}, "objective.power: got -1.0; expected above 0."),
        ({"window": 0}, "objective.window: got 0; expected at least 1."),
        ({"negatives": 5}, "objective.negatives: got an unknown key; expected one of method, "),
    ],
)
def test_an_objective_out_of_range_is_refused(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError) as error:
        objective(**changes)
    assert str(error.value).startswith(line)


def test_a_text_without_pairs_is_refused() -> None:
    with pytest.raises(UserError) as error:
        word_vectors.build(encoded([[4], [5]]), encoded([[4, 5]]), objective(), 1, CPU)
    assert str(error.value) == (
        "corpus: got a training text without two known words in a row; expected some. "
        "Lower vocab.min_count."
    )
