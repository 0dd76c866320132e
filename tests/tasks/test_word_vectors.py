"""Word vectors: equation 4 and its gradient, what is drawn and how often, and that paired words
become neighbours."""

import dataclasses
import functools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fitting
import numpy as np
import pyarrow as pa
import pytest
import torch
from long_cases import mostly_long
from torch import Tensor

from pipeline.contracts import Sizes
from pipeline.core import tables
from pipeline.core.errors import UserError
from pipeline.models import word2vec
from pipeline.nn.word2vec_loss import WindowBatch
from pipeline.tasks import word_vectors
from pipeline.training import checkpoint, devices, loop, optim, sparse

CPU = torch.device("cpu")
SGD = {"name": "sgd", "weight_decay": 0.0, "clip_norm": None}
COSINE = {"name": "cosine", "warmup_steps": 0}


def objective(**changes: Any) -> word_vectors.Config:
    given: dict[str, Any] = {
        "method": "skip_gram",
        "window": 2,
        "negatives": 5,
        "subsample": None,
        "batch_size": 16,
        "block_size": 4,
        "noise_words": 6,
    }
    return word_vectors.Config(**(given | changes))


def encoded(rows: list[list[int]]) -> pa.Table:
    return pa.table(
        {"row": range(len(rows)), "ids": rows, "paragraph": [0] * len(rows)},
        schema=tables.ENCODED_TEXT,
    )


def random_rows(count: int, vocabulary: int, seed: int = 0, longest: int = 9) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [
        rng.integers(4, vocabulary, rng.integers(1, longest + 1)).tolist() for _ in range(count)
    ]


def task(rows: list[list[int]], **changes: Any) -> word_vectors.Task:
    return word_vectors.Task(encoded(rows), encoded(rows), objective(**changes), 1, CPU)


def random_model(vocabulary: int, dimension: int = 7) -> word2vec.Model:
    torch.manual_seed(3)
    model = word2vec.Model(
        word2vec.Config(dimension=dimension), Sizes(vocabulary, vocabulary, True)
    )
    torch.nn.init.normal_(model.output.weight)
    torch.nn.init.normal_(model.input.weight)
    return model


def pairs(batch: WindowBatch, window: int) -> list[tuple[int, int, list[int], list[int]]]:
    """Every word of the batch that has contexts: its block, itself, its contexts, the block's
    noise."""
    found = []
    for g, marks in enumerate(batch.context_GTC.tolist()):
        ids, noise = batch.ids_GC[g].tolist(), batch.noise_GK[g].tolist()
        for t, near in enumerate(marks):
            contexts = [ids[c] for c, mark in enumerate(near) if mark]
            if contexts:
                found.append((g, ids[window + t], contexts, noise))
    return found


def plain_loss(config: word_vectors.Config, batch: WindowBatch, v: Tensor, v_out: Tensor) -> Tensor:
    """Equation 4 written out pair by pair; the expectation over noise is the mean over the block's
    noise words."""
    total = torch.zeros((), dtype=v.dtype)
    for _, word, contexts, noise in pairs(batch, config.window):
        if config.method == "skip_gram":
            asked = [(v[word], context) for context in contexts]
        else:
            mean = torch.stack([v[context] for context in contexts]).mean(0)
            if mean.requires_grad:
                # Mikolov's program gives each context the whole gradient of the mean.
                mean.register_hook(functools.partial(torch.mul, len(contexts)))
            asked = [(mean, word)]
        for read, said in asked:
            expected = torch.stack(
                [torch.log(torch.sigmoid(-(v_out[one] @ read))) for one in noise]
            ).mean()
            total = (
                total - torch.log(torch.sigmoid(v_out[said] @ read)) - config.negatives * expected
            )
    return total


@pytest.mark.parametrize("method", ["skip_gram", "cbow"])
def test_the_loss_is_equation_4_pair_by_pair_and_the_gradient_that_of_word2vec(method: str) -> None:
    made = task(random_rows(12, 15), method=method)
    model = random_model(15).double()
    batch = made.batch(made.plan(0)[0])
    batch = batch._replace(context_GTC=batch.context_GTC.double())
    loss, _ = made.loss(model, batch, None)
    loss.total.backward()
    v, v_out = (
        weight.detach().clone().requires_grad_()
        for weight in (model.input.weight, model.output.weight)
    )
    plain = plain_loss(made.config, batch, v, v_out)
    plain.backward()
    torch.testing.assert_close(loss.total, plain, rtol=1e-6, atol=0)
    assert model.input.weight.grad.is_sparse
    torch.testing.assert_close(model.input.weight.grad.to_dense(), v.grad, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(
        model.output.weight.grad.to_dense(), v_out.grad, rtol=1e-6, atol=1e-9
    )
    wanted = [
        len(contexts) if method == "skip_gram" else 1 for _, _, contexts, _ in pairs(batch, 2)
    ]
    assert loss.tokens == sum(wanted)


@pytest.mark.parametrize("block", [1, 4, 8])
def test_windows_are_those_that_a_loop_over_each_row_finds(block: int) -> None:
    """The words of a row are numbers of their own, so that a pair says where it comes from."""
    lengths = [1, 5, 2, 9, 1, 1, 7, 3]
    numbers = iter(range(4, 100))
    rows = [[next(numbers) for _ in range(length)] for length in lengths]
    made = task(rows, window=3, block_size=block, batch_size=2 * block)
    plan = made.plan(5)
    text = plan[0].text
    inside = slice(3, 3 + sum(lengths))
    radius = np.maximum(text.left, text.right)[inside]
    where = {word: (row, i) for row, words in enumerate(rows) for i, word in enumerate(words)}
    seen = []
    for planned in plan:
        for _, word, contexts, _ in pairs(made.batch(planned), 3):
            row, i = where[word]
            reach = radius[word - 4]
            assert contexts == rows[row][max(0, i - reach) : i] + rows[row][i + 1 : i + 1 + reach]
            seen.append(word)
    assert sorted(seen) == [word for words in rows if len(words) > 1 for word in words]


def test_the_radius_of_a_window_is_uniform_and_drawn_anew_each_epoch() -> None:
    made = task([list(range(4, 24)) * 1000], window=4)
    first, second = (made.plan(epoch)[0].text for epoch in (0, 1))
    radius = first.left[4 + 4 : 20000]  # away from the row's ends
    shares = np.bincount(radius, minlength=6)[1:5] / len(radius)
    assert abs(shares - 1 / 4).max() < 4 * math.sqrt(0.25 * 0.75 / len(radius))
    assert radius.min() == 1
    assert radius.max() == 4
    assert not np.array_equal(first.left, second.left)
    assert np.array_equal(made.plan(1)[0].text.left, second.left)


def test_noise_is_drawn_in_proportion_to_the_count_to_three_quarters() -> None:
    counts = [6000, 2000, 500, 100, 20, 1]
    made = task([[4 + word] * count for word, count in enumerate(counts)], noise_words=64)
    noise = np.concatenate([made.plan(epoch)[0].text.noise.ravel() for epoch in range(2)])
    share = np.bincount(noise, minlength=10)[4:] / len(noise)
    wanted = np.array([count**0.75 for count in counts]) / sum(count**0.75 for count in counts)
    assert np.all(abs(share - wanted) < 4 * np.sqrt(wanted / len(noise)) + 1e-12)
    assert noise.min() == 4


def test_noise_words_come_in_no_order() -> None:
    made = task([[4, 5] * 500], noise_words=8)
    noise = made.plan(0)[0].text.noise
    share_of_4 = (noise == 4).mean(1)
    assert 0.08 < share_of_4.std() < 0.28  # of 8 fair draws: 0.177


def test_subsampling_keeps_a_word_with_the_probability_of_equation_5() -> None:
    counts = np.array([0, 0, 0, 0, 80000, 15000, 4950, 50])
    made = task(
        [[word] * count for word, count in enumerate(counts.tolist()) if count], subsample=0.01
    )
    text = made.plan(0)[0].text
    kept = np.bincount(text.ids, minlength=8)[4:]
    wanted = np.minimum(1, np.sqrt(0.01 / (counts[4:] / counts.sum())))
    assert np.all(
        abs(kept / counts[4:] - wanted) <= 4 * np.sqrt(wanted * (1 - wanted) / counts[4:])
    )
    assert kept[3] == 50


def test_unknown_words_are_no_words() -> None:
    made = task([[4, 1, 5, 1, 1, 6]], window=1)
    [(_, _, first, _), (_, _, second, _), (_, _, third, _)] = pairs(made.batch(made.plan(0)[0]), 1)
    assert (first, second, third) == ([5], [4, 6], [5])


def trainer(
    folder: Path,
    rows: list[list[int]],
    vocabulary: int,
    epochs: int,
    name: str = "adagrad",
    **changes: Any,
) -> loop.Loop:
    torch.manual_seed(2)
    model = word2vec.Model(word2vec.Config(dimension=12), Sizes(vocabulary, vocabulary, True))
    steps = fitting.epochs(epochs)
    rate = {"name": name, "learning_rate": 0.3 if name == "adagrad" else 4.0, "schedule": COSINE}
    config = optim.load(SGD | rate, "optim")
    return loop.Loop(
        model, task(rows, **changes), config, steps, seed=7, work=folder, log=lambda *_: None
    )


def topic_sentences(pairs_of: int, sentences: int, seed: int) -> list[list[int]]:
    """Sentences of one topic each; words 2 i and 2 i + 1 of the vocabulary stand for each other
    among words of topic i."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(sentences):
        topic = int(rng.integers(pairs_of))
        about = 4 + 2 * pairs_of + 3 * topic + rng.integers(0, 3, 4)
        rows.append(
            [
                int(about[0]),
                int(about[1]),
                4 + 2 * topic + int(rng.integers(2)),
                int(about[2]),
                int(about[3]),
            ]
        )
    return rows


@pytest.mark.long
@pytest.mark.parametrize("method", mostly_long(["skip_gram", "cbow"], 1))
def test_words_that_stand_for_each_other_become_neighbours(method: str, tmp_path: Path) -> None:
    topics = 6
    rows = topic_sentences(topics, 1500, seed=1)
    run = trainer(
        tmp_path, rows, 4 + 5 * topics, 8, method=method, batch_size=64, block_size=8, noise_words=8
    )
    run.run(lambda *_: None)
    vectors = torch.nn.functional.normalize(
        run.model.input.weight.detach()[4 : 4 + 2 * topics], dim=1
    )
    nearest = (vectors @ vectors.T - 2 * torch.eye(2 * topics)).argmax(1)
    assert nearest.tolist() == [word ^ 1 for word in range(2 * topics)]
    losses = [value for _, _, name, value in run.progress.history if name == "valid/loss"]
    assert losses[-1] < losses[0]


class Killed(Exception):
    """Stands for a kill: nothing after it runs."""


@pytest.fixture(params=[1, pytest.param(2, marks=pytest.mark.long)])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    devices.prepare(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.long
@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("name", mostly_long(["adagrad", "sgd"], 1))
def test_two_trainings_and_a_resumed_one_end_in_the_same_bytes(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, again = (
        trainer(tmp_path / folder, random_rows(60, 20), 20, 3, name)
        for folder in ("whole", "again")
    )
    for run in (whole, again):
        run.run(lambda *_: None)
    monkeypatch.setenv("SEQLINE_SAVE_SECONDS", "0")  # a state at every step
    cut, resumed = (trainer(tmp_path / "cut", random_rows(60, 20), 20, 3, name) for _ in range(2))

    def kill(progress: loop.Progress, batches: int) -> None:
        if progress.step == whole.progress.step // 2:
            raise Killed

    with pytest.raises(Killed):
        cut.run(kill)
    resumed.run(lambda *_: None)
    for run in (again, resumed):
        assert run.progress.history == whole.progress.history
        for weight, tensor in checkpoint.unique_tensors(whole.model).items():
            assert torch.equal(tensor, checkpoint.unique_tensors(run.model)[weight]), weight


def test_clipping_matches_torch_and_sums_repeated_sparse_rows() -> None:
    ids = torch.tensor([1, 3, 3, 3, 0])
    tables_ = [torch.nn.Embedding(5, 3, sparse=flag) for flag in (True, False)]
    with torch.no_grad():
        tables_[0].weight.copy_(tables_[1].weight)
    for table in tables_:
        (table(ids) ** 2).sum().backward()
    for most in (None, 0.5, 1000.0):
        norm = torch.nn.utils.clip_grad_norm_(
            tables_[1].parameters(), math.inf if most is None else most
        )
        copy = torch.nn.Parameter(tables_[1].weight.detach().clone())
        copy.grad = tables_[1].weight.grad.clone()
        assert sparse.clip(tables_[0].parameters(), most) == pytest.approx(float(norm), rel=1e-6)
        torch.testing.assert_close(tables_[0].weight.grad.to_dense(), tables_[1].weight.grad)
        again = torch.nn.utils.clip_grad_norm_([copy], 0.1)
        assert sparse.clip(tables_[1].parameters(), 0.1) == float(again)
        assert torch.equal(copy.grad, tables_[1].weight.grad)
        sparse.clip(tables_[0].parameters(), 0.1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "adam", "betas": [0.9, 0.999]}, "optim.name: got adam; expected sgd or adagrad"),
        ({"weight_decay": 0.1}, "optim.weight_decay: got 0.1; expected 0"),
    ],
)
def test_an_optimiser_that_knows_no_sparse_gradients_is_refused(
    change: dict[str, Any], said: str, tmp_path: Path
) -> None:
    rate = optim.load(SGD | {"learning_rate": 0.1, "schedule": COSINE} | change, "optim")
    steps = fitting.epochs(1)
    with pytest.raises(UserError, match=said):
        loop.Loop(
            random_model(9),
            task([[4, 5, 6]]),
            rate,
            steps,
            seed=1,
            work=tmp_path,
            log=lambda *_: None,
        )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"window": 0}, "window: got 0"),
        ({"subsample": 0.0}, "subsample: got 0.0"),
        (
            {"batch_size": 10},
            "batch_size: got 10 with block_size 4; expected a multiple of block_size",
        ),
    ],
)
def test_an_objective_that_cannot_be_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        dataclasses.replace(objective(), **change)


def test_a_text_without_pairs_is_refused() -> None:
    with pytest.raises(UserError, match="without a known word"):
        task([[1, 1], []])
    with pytest.raises(UserError, match="without two known words"):
        task([[4], [5], [6, 1]])
