"""Class weights, over- and undersampling of classifiers, against scikit-learn and torch."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from fitting import fit
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional as F

from pipeline.contracts import Sizes
from pipeline.core import config, tables
from pipeline.core.errors import UserError
from pipeline.nn import labelled
from pipeline.tasks import classification
from pipeline.training import checkpoint

CPU = torch.device("cpu")
LABELS = np.array([0] * 50 + [1] * 7 + [2] * 20)


def texts(labels: list[int], seed: int = 1) -> pa.Table:
    """Texts of one to four words; the first is the label's own in nine of ten texts."""
    rng = np.random.default_rng(seed)
    rows = []
    for label in labels:
        first = 4 + (label if rng.random() < 0.9 else int(rng.integers(0, 3)))
        rows.append([first, *rng.integers(8, 12, rng.integers(0, 4)).tolist()])
    return pa.table(
        {"row": range(len(rows)), "ids": rows, "label": labels}, schema=tables.ENCODED_LABELLED
    )


def task_of(balance: str, labels: Any = LABELS, seed: int = 1) -> classification.Task:
    table = texts(list(labels))
    objective = classification.Config(
        batch_tokens=30, label_smoothing=0.0, balance=balance, max_length=None
    )
    return classification.Task(table, table, objective, seed, CPU)


def rows_of(task: classification.Task, epoch: int) -> list[int]:
    return [int(row) for batch in task.plan(epoch) for row in batch]


def model_of(dropout: float = 0.0) -> Any:
    torch.manual_seed(3)
    block = {"embedding": 8, "hidden": 8, "layers": 1, "dropout": dropout}
    return checkpoint.build("mlp_classifier", block, Sizes(12, 3, False), "model")


def test_class_weights_are_scikit_learns_and_have_a_mean_of_one() -> None:
    weights = labelled.class_weights(np.bincount(LABELS))
    expected = compute_class_weight("balanced", classes=np.arange(3), y=LABELS)
    np.testing.assert_allclose(weights, expected, rtol=1e-6)
    assert weights[LABELS].mean() == pytest.approx(1.0, rel=1e-6)


def test_the_weighted_loss_is_torchs_in_value_and_gradient() -> None:
    model = model_of()
    task = task_of("class_weights")
    batch = task.batch(np.arange(30, 60))
    loss = task.loss(model, batch, None)[0]
    torch_total = F.cross_entropy(
        model.classify(batch.text), batch.label_B, weight=task.weight_C, reduction="sum"
    )
    assert loss.tokens == 30
    torch.testing.assert_close(loss.total, torch_total)
    weights = list(model.parameters())
    gradients = torch.autograd.grad(loss.total, weights)
    torch.testing.assert_close(gradients, torch.autograd.grad(torch_total, weights))


def test_label_smoothing_is_weighted_by_the_row_s_class() -> None:
    task = task_of("class_weights")
    task.config = classification.Config(
        batch_tokens=30, label_smoothing=0.2, balance="class_weights", max_length=None
    )
    model = model_of()
    batch = task.batch(np.arange(45, 60))
    log_probs_BC = model.classify(batch.text).log_softmax(1)
    true_B = log_probs_BC.gather(1, batch.label_B[:, None])[:, 0]
    smooth_B = -(0.8 * true_B + 0.2 * log_probs_BC.mean(1))
    expected = sum(
        float(task.weight_C[label]) * nats
        for label, nats in zip(batch.label_B, smooth_B, strict=True)
    )
    torch.testing.assert_close(task.loss(model, batch, None)[0].total, expected)


@pytest.mark.parametrize("balance", ["none", "class_weights"])
def test_without_resampling_an_epoch_has_each_row_once(balance: str) -> None:
    assert sorted(rows_of(task_of(balance), 0)) == list(range(len(LABELS)))
    assert task_of(balance).plan(1)[0].tolist() == task_of("none").plan(1)[0].tolist()


def test_oversampling_repeats_all_rows_of_a_class_as_often_to_within_one() -> None:
    task = task_of("oversample")
    for epoch in (0, 1):
        count = Counter(rows_of(task, epoch))
        for label, (least, most) in enumerate(((1, 1), (7, 8), (2, 3))):
            times = [count[int(row)] for row in np.flatnonzero(label == LABELS)]
            assert (min(times), max(times), sum(times)) == (least, most, 50)


def test_undersampling_draws_other_rows_in_each_epoch() -> None:
    task = task_of("undersample")
    drawn = [rows_of(task, epoch) for epoch in range(12)]
    for rows in drawn:
        assert Counter(LABELS[rows].tolist()) == {0: 7, 1: 7, 2: 7}
        assert len(set(rows)) == 21
    assert len({tuple(sorted(rows)) for rows in drawn}) == 12
    assert len(set().union(*drawn)) > 60


@pytest.mark.parametrize("balance", ["oversample", "undersample"])
def test_resampling_depends_on_seed_and_epoch_only(balance: str) -> None:
    assert rows_of(task_of(balance), 2) == rows_of(task_of(balance), 2)
    assert rows_of(task_of(balance), 2) != rows_of(task_of(balance, seed=2), 2)


@pytest.mark.parametrize("balance", ["class_weights", "oversample", "undersample"])
def test_a_class_without_rows_is_refused_in_one_line(balance: str) -> None:
    objective = classification.Config(
        batch_tokens=30, label_smoothing=0.0, balance=balance, max_length=None
    )
    for train, valid, number in (([0, 2], [0, 1, 2], 1), ([0, 1], [0, 1, 2], 2)):
        with pytest.raises(UserError) as refused:
            classification.Task(texts(train), texts(valid), objective, 1, CPU)
        assert str(refused.value) == (
            f"corpus: got no training text with the label number {number}; expected at least one "
            "of every label. Enlarge the corpus, or leave the label out."
        )


def test_an_unknown_balance_is_refused_in_one_line() -> None:
    block = {"batch_tokens": 9, "label_smoothing": 0.0, "balance": "smote", "max_length": None}
    with pytest.raises(UserError, match=r"^objective\.balance: got smote; expected .*undersample"):
        config.load(classification.Config, block, "objective")


@pytest.mark.parametrize("balance", ["class_weights", "oversample", "undersample"])
def test_the_validation_loss_counts_each_class_alike_with_a_balance(balance: str) -> None:
    model = model_of().eval()
    task, plain = task_of(balance), task_of("none")
    log_probs_NC = plain.log_probs(model)
    nats_N = -log_probs_NC[np.arange(len(LABELS)), LABELS]
    loss = task.validate(model)[0]
    by_class = [nats_N[label == LABELS].mean() for label in range(3)]
    assert float(loss.total) / loss.tokens == pytest.approx(np.mean(by_class), rel=1e-6)
    assert float(plain.validate(model)[0].total) == pytest.approx(nats_N.sum())


@pytest.mark.parametrize("balance", ["class_weights", "oversample", "undersample"])
def test_a_rare_class_is_recalled_more_often_with_balance(balance: str, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    labels = [0] * 360 + [1] * 12 + [2] * 28
    # A word of the rare class is written in as many texts of the large one.
    test = texts([0] * 100 + [1] * 100, seed=2)
    recall = {}
    for name in ("none", balance):
        model = model_of()
        # An epoch of undersampling has a tenth of the batches of the others.
        epochs = 40 if name == "undersample" else 6
        fit(model, task_of(name, labels), 0.01, epochs, tmp_path / name, warmup=5)
        log_probs_NC = classification.log_probs(model, test["ids"], None, CPU)
        recall[name] = (log_probs_NC[100:].argmax(1) == 1).mean()
    assert recall[balance] > recall["none"] + 0.1
