"""Filling blanks from both sides: what is seen, that it is learnt, and why it is not ranked with
language models."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from fitting import fit
from torch import nn

from pipeline.contracts import BOS, EOS, PAD, Sizes
from pipeline.core import tables
from pipeline.core.errors import UserError
from pipeline.tasks import fill_blank
from pipeline.training import checkpoint

CPU = torch.device("cpu")
BLOCK = {
    "cell": "gru",
    "embedding": 12,
    "hidden": 24,
    "layers": 2,
    "dropout": 0.0,
    "implementation": "fused",
}
OBJECTIVE = fill_blank.Config(batch_tokens=64, max_length=16)


@pytest.fixture(params=["rnn", "gru", "lstm"])
def model(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(2)
    return checkpoint.build(
        "bidirectional_lm", BLOCK | {"cell": request.param}, Sizes(10, 10, True), "model"
    ).eval()


def texts(rows: list[list[int]]) -> pa.Table:
    return pa.table(
        {"row": range(len(rows)), "ids": rows, "paragraph": [0] * len(rows)},
        schema=tables.ENCODED_TEXT,
    )


def row_of(*ids: int, width: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    whole = [BOS, *ids, EOS]
    return torch.tensor([whole + [PAD] * (width - len(whole))]), torch.tensor([len(whole)])


@torch.inference_mode()
def test_word_state_combines_left_and_right_context(model: Any) -> None:
    words = [4, 5, 6, 7]
    found_1WH = model.hidden(*row_of(*words, width=9))
    embedded = model.embedding(torch.tensor([[BOS, *words, EOS]]))
    for t in range(len(words)):
        left, _ = model.forwards(embedded[:, : t + 1], None)
        right, _ = model.backwards(embedded[:, t + 2 :].flip(1), None)
        want = torch.cat([left[0, -1], right[0, -1]])
        torch.testing.assert_close(found_1WH[0, t], want, atol=1e-5, rtol=1e-4)


def train(model: nn.Module, table: pa.Table, work: Path, epochs: int) -> None:
    fit(
        model,
        fill_blank.Task(table, table.slice(0, 40), OBJECTIVE, 1, CPU),
        0.01,
        epochs,
        work,
        warmup=10,
    )


def test_pseudo_perplexity_is_below_any_language_models_perplexity(tmp_path: Path) -> None:
    """Rows are one of six words, twice. From left to right the first word costs log 6 and the
    second nothing: no language model can have a perplexity under sqrt(6). A blank filler sees each
    word's twin, and has one of nearly 1."""
    torch.manual_seed(3)
    model = checkpoint.build("bidirectional_lm", BLOCK, Sizes(10, 10, True), "model")
    rng = np.random.default_rng(4)
    rows = [[int(word)] * 2 for word in rng.integers(4, 10, 400)]
    train(model, texts(rows), tmp_path, 12)
    nats, count = fill_blank.likelihood(model, texts(rows[:50]), CPU)
    assert math.exp(nats.sum() / count.sum()) < 1.1 < math.sqrt(6)
    assert int(fill_blank.log_probs(model, [7], [], CPU).argmax()) == 7
    assert int(fill_blank.log_probs(model, [], [5], CPU).argmax()) == 5


def test_it_learns_a_word_that_only_the_right_side_tells(tmp_path: Path) -> None:
    torch.manual_seed(3)
    model = checkpoint.build("bidirectional_lm", BLOCK, Sizes(10, 10, True), "model")
    rng = np.random.default_rng(5)
    rows = [[int(a), 4, int(9 - (a - 4) % 2)] for a in rng.integers(5, 10, 300)]
    train(model, texts(rows), tmp_path, 6)
    right = [
        int(fill_blank.log_probs(model, row[:2], [], CPU).argmax()) == row[2] for row in rows[:30]
    ]
    assert sum(right) >= 28


def test_a_training_text_of_nothing_but_long_rows_is_refused() -> None:
    with pytest.raises(UserError, match=r"objective\.max_length: got 16; expected at least 20"):
        fill_blank.Task(texts([[4] * 20]), texts([[4]]), OBJECTIVE, 1, CPU)
