"""What an epoch is made of: windows of a stream, which carry a state on or begin afresh, and
batches of pairs."""

from typing import Any

import pyarrow as pa
import pytest
import torch
from torch import nn

from pipeline.contracts import Sizes
from pipeline.core import tables
from pipeline.core.errors import UserError
from pipeline.tasks import language_model, translation
from pipeline.training import checkpoint

CPU = torch.device("cpu")


def test_a_corpus_too_small_for_its_batches_is_refused() -> None:
    table = pa.table({"row": [0], "ids": [[4, 5]], "paragraph": [0]}, schema=tables.ENCODED_TEXT)
    objective = language_model.Config(
        batch_size=8, steps=5, sampling="sequential", max_train_tokens=None, softmax_words=None
    )
    with pytest.raises(UserError, match=r"objective\.batch_size: got 8"):
        language_model.Task(table, table, objective, 1, CPU)
    pairs = pa.table({"row": [0], "source": [[4] * 9], "target": [[4]]}, schema=tables.ENCODED_PAIR)
    with pytest.raises(UserError, match=r"objective\.max_length: got 3; expected at least 9"):
        translation.Task(
            pairs,
            pairs,
            translation.Config(
                batch_tokens=60,
                label_smoothing=0.1,
                max_length=3,
                scheduled_sampling=None,
                padding_in_loss=False,
            ),
            1,
            CPU,
        )


@pytest.mark.parametrize("sampling", ["sequential", "random"])
def test_windows_follow_the_stream_and_cover_it(sampling: str) -> None:
    table = pa.table(
        {"row": range(40), "ids": [[4, 5, 6, 7, 8]] * 40, "paragraph": [0] * 40},
        schema=tables.ENCODED_TEXT,
    )
    objective = language_model.Config(
        batch_size=4,
        steps=6,
        sampling=sampling,  # type: ignore[arg-type]
        max_train_tokens=None,
        softmax_words=None,
    )
    task = language_model.Task(table, table, objective, 1, CPU)
    stream = torch.from_numpy(language_model.stream(table))
    seen = torch.zeros(len(stream), dtype=torch.int64)
    plan = task.plan(0)
    for i, planned in enumerate(plan):
        batch = task.batch(planned)
        assert torch.equal(batch.ids_BT[:, 1:], batch.label_BT[:, :-1])
        for start, row in zip(planned.start_B, batch.ids_BT, strict=True):
            assert torch.equal(row, stream[start : start + 6])
            seen[start : start + 6] += 1
        if sampling == "sequential" and i:
            assert (planned.start_B == plan[i - 1].start_B + 6).all()
            assert not batch.fresh
    assert int(seen.max()) == 1
    assert int(seen.sum()) > 0.75 * len(stream)


def test_only_sequential_windows_carry_the_hidden_state() -> None:
    rows = torch.randint(4, 12, (40, 5), generator=torch.Generator().manual_seed(1)).tolist()
    table = pa.table(
        {"row": range(40), "ids": rows, "paragraph": [0] * 40}, schema=tables.ENCODED_TEXT
    )
    block = {
        "embedding": 8,
        "hidden": 16,
        "layers": 2,
        "dropout": 0.0,
        "tied": False,
        "implementation": "fused",
    }
    torch.manual_seed(2)
    model: Any = checkpoint.build(
        "recurrent_lm", block | {"cell": "lstm"}, Sizes(12, 12, True), "model"
    )
    losses = {}
    for sampling in ("sequential", "random"):
        objective = language_model.Config(
            batch_size=4,
            steps=6,
            sampling=sampling,  # type: ignore[arg-type]
            max_train_tokens=None,
            softmax_words=None,
        )
        task = language_model.Task(table, table, objective, 1, CPU)
        carry, batches = None, [task.batch(planned) for planned in task.plan(0)]
        losses[sampling] = []
        for batch in batches:
            loss, carry = task.loss(model, batch, carry)
            losses[sampling].append(float(loss.total.detach()))
        alone = [
            float(task.loss(model, batch._replace(fresh=True), None)[0].total.detach())
            for batch in batches
        ]
        if sampling == "random":
            assert losses["random"] == alone
        else:
            assert all(part.grad_fn is None for part in carry or ()), (
                "the gradient stops at the window's start"
            )
            hidden_BTH, _ = model.hidden(torch.cat([batch.ids_BT for batch in batches], 1), None)
            label_BT = torch.cat([batch.label_BT for batch in batches], 1)
            whole = nn.functional.cross_entropy(
                model.project(hidden_BTH).flatten(0, 1), label_BT.flatten(), reduction="sum"
            )
            assert sum(losses["sequential"]) == pytest.approx(float(whole.detach()), rel=1e-5)
            assert losses["sequential"][1:] != pytest.approx(alone[1:], rel=1e-5)


def test_batches_hold_every_usable_pair_once_and_keep_the_budget() -> None:
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(1, 15, (300, 2), generator=generator).tolist()
    pairs = pa.table(
        {
            "row": range(300),
            "source": [[4] * s for s, _ in lengths],
            "target": [[5] * t for _, t in lengths],
        },
        schema=tables.ENCODED_PAIR,
    )
    config = translation.Config(
        batch_tokens=50,
        label_smoothing=0.0,
        max_length=12,
        scheduled_sampling=None,
        padding_in_loss=False,
    )
    task = translation.Task(pairs, pairs, config, 1, CPU)
    rows = [int(row) for planned in task.plan(0) for row in planned]
    assert sorted(rows) == [i for i, pair in enumerate(lengths) if max(pair) <= 12]
    assert all(
        len(planned) * (task.train.target.length[planned].max() + 1) <= 50
        for planned in task.plan(0)
    )
    assert task.plan(0)[0].tolist() == task.plan(0)[0].tolist()
    assert [p.tolist() for p in task.plan(0)] != [p.tolist() for p in task.plan(1)]
