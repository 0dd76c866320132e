"""Every family of classifier: padding proven by perturbation, oracles written out, what order means
to whom, learning."""

from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from family_cases import CLASSIFIERS as FAMILIES
from fitting import epochs, fit

from pipeline.contracts import EOS, PAD, Prompt, Sizes
from pipeline.core import tables
from pipeline.core.errors import UserError
from pipeline.tasks import classification, word_vectors
from pipeline.text.specials import SPECIALS
from pipeline.training import checkpoint, loop, optim

CPU = torch.device("cpu")
SIZES = Sizes(12, 2, False)


def built(name: str, **changes: Any) -> Any:
    torch.manual_seed(3)
    family, block = FAMILIES[name]
    return checkpoint.build(family, block | changes, SIZES, "settings.test.model").eval()


def prompt_of(*rows: list[int], width: int = 0) -> Prompt:
    width = max(width, *(len(row) for row in rows))
    ids = torch.tensor([row + [PAD] * (width - len(row)) for row in rows])
    return Prompt(ids, torch.tensor([len(row) for row in rows]))


def texts(rows: list[list[int]], labels: list[int]) -> pa.Table:
    return pa.table(
        {"row": range(len(rows)), "ids": rows, "label": labels}, schema=tables.ENCODED_LABELLED
    )


def settings(**changes: Any) -> classification.Config:
    return classification.Config(
        **(
            {"batch_tokens": 200, "label_smoothing": 0.0, "balance": "none", "max_length": None}
            | changes
        )
    )


@pytest.mark.parametrize("name", FAMILIES)
@torch.inference_mode()
def test_order_is_lost_on_the_bag_and_on_no_other(name: str) -> None:
    """`not good but bad` in all its orders: one bag, 24 sequences."""
    logits_NC = built(name).classify(
        prompt_of(*(list(order) for order in permutations([4, 5, 6, 7])))
    )
    apart = (logits_NC - logits_NC[0]).abs().amax(1)
    if name == "mlp":
        torch.testing.assert_close(apart, torch.zeros(24), atol=1e-6, rtol=0.0)
    else:
        assert (apart[1:] > 1e-5).all()


@torch.inference_mode()
def test_both_directions_decide_where_they_end() -> None:
    model = built("bigru")
    for change in ([9, 6, 7], [5, 6, 9]):
        read = []
        for row in ([5, 6, 7], change):
            embedded = model.embedding(torch.tensor([row]))
            _, state = model.cells.forward_padded(embedded, torch.tensor([3]))
            read.append(state[0][-1, 0])
        assert not torch.allclose(read[0][:16], read[1][:16])
        assert not torch.allclose(read[0][16:], read[1][16:])


def sentiment(count: int, seed: int) -> pa.Table:
    """Two words: one of four that say nothing, and a good (8, 9) or bad one (10, 11), in either
    order."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    words = np.stack([rng.integers(4, 8, count), 8 + 2 * labels + rng.integers(0, 2, count)], 1)
    return texts([rng.permutation(pair).tolist() for pair in words], labels.tolist())


def vectors() -> dict[str, torch.Tensor]:
    """What word2vec learnt where the good words (8, 9) are near one another, and so are the bad
    ones (10, 11)."""
    model = checkpoint.build(
        "word2vec", {"dimension": 16}, Sizes(SIZES.source, SIZES.source, True), "model"
    )
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        model.input.weight.normal_(std=0.1, generator=generator)
        model.output.weight[len(SPECIALS) :].normal_(generator=generator)
        model.input.weight[8:10] += torch.randn(16, generator=generator)
        model.input.weight[10:12] += torch.randn(16, generator=generator)
    return model.state_dict()


@pytest.mark.parametrize("name", ["mlp", "cnn", "bigru", "transformer"])
def test_words_that_were_never_seen_with_a_label_are_known_by_their_vectors(
    name: str, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    learnt = vectors()
    table = sentiment(600, 1)
    seen = np.array([not {9, 11} & set(ids) for ids in table["ids"].to_pylist()])
    right = []
    for number, begins in enumerate((True, False)):
        model = built(name)
        if begins:
            model.load_pretrained(learnt)
            given = learnt["input.weight"]
            assert torch.equal(model.embedding.weight[len(SPECIALS) :], given[len(SPECIALS) :])
        task = classification.Task(table.filter(seen), table.filter(seen), settings(), 1, CPU)
        fit(model, task, 0.005, 8, tmp_path / f"work_{number}", warmup=5)
        rest = table.filter(~seen)
        found = classification.log_probs(model, rest["ids"], settings(), CPU)
        right.append((found.argmax(1) == rest["label"].to_numpy()).mean())
    assert right[0] > 0.95
    assert right[1] < 0.8, "without them half of the test's words mean nothing"


@pytest.mark.parametrize("name", ["mlp", "cnn", "bigru", "transformer"])
def test_word_unknown_to_word2vec_keeps_random_vector_of_same_scale(
    name: str, tmp_path: Path
) -> None:
    """A word2vec trained on a text of half of the words; the other half, and the specials, are in
    the vocabulary alone."""
    sizes, dimension = Sizes(400, 400, True), 16
    rng = np.random.default_rng(1)
    rows = pa.array(
        [rng.integers(len(SPECIALS), 200, 20).tolist() for _ in range(60)], pa.list_(pa.int32())
    )
    table = pa.table([range(60), rows, [0] * 60], schema=tables.ENCODED_TEXT)
    objective = word_vectors.Config(
        method="skip_gram",
        window=2,
        negatives=5,
        subsample=None,
        batch_size=64,
        block_size=16,
        noise_words=16,
    )
    vectors: Any = checkpoint.build("word2vec", {"dimension": dimension}, sizes, "model")
    task = word_vectors.Task(table, table, objective, 1, CPU)
    rate = optim.Plain(
        name="adagrad",
        learning_rate=0.2,
        weight_decay=0.0,
        clip_norm=None,
        schedule=optim.Cosine(name="cosine", warmup_steps=0),
    )
    loop.Loop(vectors, task, rate, epochs(1), seed=1, work=tmp_path, log=lambda *_: None).run(
        lambda *_: None
    )
    torch.manual_seed(3)
    family, block = FAMILIES[name]
    model: Any = checkpoint.build(family, block, Sizes(sizes.source, 2, False), "model")
    drawn, given = model.embedding.weight.detach().clone(), vectors.input.weight.detach()
    model.load_pretrained(vectors.state_dict())
    met = np.zeros(sizes.source, bool)
    met[np.unique(rows.flatten().to_numpy())] = True
    assert 190 < met.sum() <= 196
    now = model.embedding.weight.detach()
    assert torch.equal(now[met], given[met])
    own = now[~met] / drawn[~met]
    torch.testing.assert_close(own, own[0, 0].expand_as(own))
    assert float(now[~met].std() / now[met].std()) == pytest.approx(1, abs=0.1)


def test_batches_hold_every_row_once_within_the_budget_and_alike_in_length() -> None:
    rng = np.random.default_rng(1)
    lengths = rng.integers(1, 30, 300)
    table = texts([[5] * n for n in lengths], [0] * 300)
    task = classification.Task(table, table, settings(batch_tokens=64), 1, CPU)
    plan = task.plan(0)
    assert sorted(np.concatenate(plan)) == list(range(300))
    assert all(len(rows) * (lengths[rows].max() + 1) <= 64 for rows in plan)
    assert np.mean([np.ptp(lengths[rows]) for rows in plan]) < 2
    assert [rows.tolist() for rows in task.plan(0)] == [rows.tolist() for rows in plan]
    assert [rows.tolist() for rows in task.plan(1)] != [rows.tolist() for rows in plan]


def test_a_batch_is_its_texts_with_the_end_behind_them_and_their_labels() -> None:
    task = classification.Task(
        texts([[5, 6], [7], [8, 9, 4]], [1, 0, 1]), texts([[5]], [0]), settings(), 1, CPU
    )
    text, label = task.batch(np.array([2, 1]))
    assert text.ids_BS.tolist() == [[8, 9, 4, EOS], [7, EOS, PAD, PAD]]
    assert (text.length_B.tolist(), label.tolist()) == ([4, 2], [1, 0])


def test_only_the_beginning_of_a_long_text_is_read() -> None:
    model, long, short = built("bigru"), texts([[5, 6, 7, 8]], [0]), texts([[5, 6]], [0])
    cut = classification.log_probs(model, long["ids"], settings(max_length=2), CPU)
    np.testing.assert_allclose(cut, classification.log_probs(model, short["ids"], settings(), CPU))
    assert not np.allclose(cut, classification.log_probs(model, long["ids"], settings(), CPU))


def test_probabilities_come_in_the_order_of_the_rows_and_sum_to_one() -> None:
    model = built("cnn")
    rows = [
        [int(i) for i in np.random.default_rng(n).integers(4, 12, 1 + n % 7)] for n in range(300)
    ]
    found = classification.log_probs(model, texts(rows, [0] * 300)["ids"], settings(), CPU)
    np.testing.assert_allclose(np.exp(found).sum(1), 1.0)
    for row in (0, 150, 299):
        np.testing.assert_allclose(
            found[row],
            classification.log_probs(model, texts([rows[row]], [0])["ids"], settings(), CPU)[0],
            atol=1e-5,
        )


def test_smoothing_is_for_training_alone() -> None:
    model, table = built("mlp"), sentiment(50, 1)
    plain, smooth = (
        classification.Task(table, table, settings(label_smoothing=s), 1, CPU) for s in (0.0, 0.2)
    )
    batch = plain.batch(np.arange(50))
    with torch.no_grad():
        logits_BC = model.classify(batch.text)
        log_probs_BC = logits_BC.log_softmax(1)
        true_B = log_probs_BC.gather(1, batch.label_B[:, None]).squeeze(1)
        want = -(0.8 * true_B + 0.2 * log_probs_BC.mean(1)).sum()
        torch.testing.assert_close(smooth.loss(model, batch, None)[0].total, want)
    assert float(smooth.validate(model)[0].total) == pytest.approx(
        float(plain.validate(model)[0].total)
    )


@pytest.mark.parametrize(
    ("name", "changes", "key"),
    [
        ("mlp", {"hidden": 0}, "hidden"),
        ("cnn", {"widths": []}, "widths"),
        ("cnn", {"widths": [0]}, "widths"),
        ("bigru", {"dropout": 1.0}, "dropout"),
        ("transformer", {"heads": 3}, "heads"),
        ("transformer", {"layers": 0}, "layers"),
    ],
)
def test_sizes_that_make_no_model_are_refused(name: str, changes: dict[str, Any], key: str) -> None:
    with pytest.raises(UserError, match=rf"settings\.test\.model\.{key}: got"):
        built(name, **changes)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"max_length": 0}, "max_length"),
        ({"max_length": 300}, "batch_tokens"),
        ({"label_smoothing": 1.0}, "label_smoothing"),
    ],
)
def test_objectives_that_make_no_batch_are_refused(changes: dict[str, Any], key: str) -> None:
    with pytest.raises(UserError, match=key):
        settings(**changes)


def test_kims_constraint_shrinks_the_weights_of_a_label_that_are_too_long() -> None:
    config = {"embedding": 4, "widths": [2], "filters": 3, "dropout": 0.0, "max_norm": 3.0}
    model: Any = checkpoint.build("text_cnn", config, Sizes(9, 2, True), "model")
    with torch.no_grad():
        model.output.weight.copy_(torch.tensor([[3.0, 4.0, 0.0], [1.0, 0.0, 0.0]]))
    model.constrain()
    expected = torch.tensor([[1.8, 2.4, 0.0], [1.0, 0.0, 0.0]])
    torch.testing.assert_close(model.output.weight.detach(), expected, atol=1e-5, rtol=1e-5)

    free: Any = checkpoint.build(
        "text_cnn", config | {"max_norm": None}, Sizes(9, 2, True), "model"
    )
    before = free.output.weight.detach().clone()
    free.constrain()
    assert torch.equal(free.output.weight, before)


def test_max_norm_of_zero_is_refused_in_one_line() -> None:
    config = {"embedding": 4, "widths": [2], "filters": 3, "dropout": 0.0, "max_norm": 0.0}
    with pytest.raises(UserError, match=r"model\.max_norm: got 0\.0; expected above 0, or null"):
        checkpoint.build("text_cnn", config, Sizes(9, 2, True), "model")
