"""Checks of blank fillers: each row is one word twice, so that each predicts the other one."""

from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from pipeline.conformance import (
    ADAM,
    CPU,
    Case,
    Check,
    expect_different,
    expect_same,
    expect_shape,
    log_probs,
)
from pipeline.conformance.rows import MASK_PADDING, perplexity, prompt_of, text_table
from pipeline.contracts import BOS, EOS, Sizes
from pipeline.tasks import fill_blank

EXAMPLE = "pipeline.models.bidirectional_lm"
SIZES = Sizes(10, 10, True)
OPTIM = ADAM
RATES = (0.01, 0.002, 0.03)
EPOCHS = 12
_MOST = 1.5  # perplexity of a word, given the other one


def training(model: Any) -> tuple[pa.Table, pa.Table, fill_blank.Config]:
    """Rows of two words."""
    return _rows(400, 1), _rows(40, 2), fill_blank.Config(batch_tokens=64, max_length=16)


def outputs(model: Any) -> Tensor:
    """Log-probabilities BWV of the words of a row."""
    return _log_probs(model, [4, 5, 6, 7])


def learned(model: Any) -> tuple[bool, str]:
    """By the perplexity of new rows."""
    nats, count = fill_blank.likelihood(model, _rows(50, 3), CPU)
    return perplexity(nats, count, _MOST)


def shapes(case: Case) -> None:
    """Outputs have a row for each word, without BOS and EOS."""
    model = case.model()
    with torch.inference_mode():
        hidden_1WH = _hidden(model, [4, 5, 6])
        expect_shape("hidden", hidden_1WH[..., 0], (1, 3), "BW of the words between BOS and EOS")
        expect_shape("project", model.project(hidden_1WH[0]), (3, SIZES.target), "NV")


def padding(case: Case) -> None:
    """Padding changes no result."""
    model = case.model()
    padded = _log_probs(model, [4, 5, 6], width=11)[:, :3]
    expect_same("a row with padding", padded, _log_probs(model, [4, 5, 6]), MASK_PADDING)


def blanks(case: Case) -> None:
    """No word is predicted from itself, and each from the words on both its sides."""
    model = case.model()
    words, place = [4, 5, 6, 7], 2
    before = _log_probs(model, words)[0]
    after = _log_probs(model, [4, 5, 9, 7])[0]
    todo = "Leave the word itself out of what its vector is computed from."
    expect_same(f"the prediction of word {place} after a change of it", after[2], before[2], todo)
    for neighbour in (1, 3):
        todo = "Read both sides."
        what = f"the prediction of word {neighbour} after a change of word {place}"
        expect_different(what, after[neighbour], before[neighbour], todo)


CHECKS: tuple[Check, ...] = (shapes, padding, blanks)


def _rows(count: int, seed: int) -> pa.Table:
    words = np.random.default_rng(seed).integers(4, SIZES.source, count).tolist()
    return text_table([[word, word] for word in words])


def _hidden(model: Any, words: list[int], width: int = 0) -> Tensor:
    prompt = prompt_of([BOS, *words, EOS], width=width)
    hidden_1WH: Tensor = model.hidden(prompt.ids_BS, prompt.length_B)
    return hidden_1WH


@torch.inference_mode()
def _log_probs(model: Any, words: list[int], width: int = 0) -> Tensor:
    return log_probs(model, _hidden(model, words, width))
