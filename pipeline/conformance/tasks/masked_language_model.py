"""Checks of masked language models: a sentence repeats one word, and a paragraph keeps to one of
two sets of words."""

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
    is_trained,
    log_probs,
)
from pipeline.conformance.rows import MASK_PADDING, expect_read, prompt_of, text_table
from pipeline.contracts import BOS, EOS, MASK, Sizes
from pipeline.tasks import masked_language_model as mlm

EXAMPLE = "pipeline.models.bert"
SIZES = Sizes(14, 14, True)
OPTIM = ADAM
RATES = (0.005, 0.001, 0.02)
EPOCHS = 6
_LEAST = 0.7  # share of the masked words that are right
_ROW = [BOS, 5, 6, MASK, 7, 8, EOS]


def training(model: Any) -> tuple[pa.Table, pa.Table, mlm.Config]:
    """Paragraphs of four sentences."""
    objective = mlm.Config(batch_size=32, max_length=24, max_train_pairs=None)
    return _paragraphs(500, 1), _paragraphs(40, 2), objective


def outputs(model: Any) -> Tensor:
    """Log-probabilities SV of each position."""
    return _log_probs(model, _ROW)


def learned(model: Any) -> tuple[bool, str]:
    """By the masked words of new paragraphs; a fitted model must be better than chance alone."""
    scores = mlm.score(model, _paragraphs(60, 3), training(model)[2], CPU)
    share = float(scores["correct"].sum() / scores["count"].sum())
    least = _LEAST if is_trained(model) else 2 / (SIZES.target - 4)
    return share >= least, f"{share:.0%} of the masked words right; expected {least:.0%}"


@torch.inference_mode()
def shapes(case: Case) -> None:
    """`read`, `project` and `follows` have their shapes."""
    model = case.model()
    text = prompt_of(_ROW, _ROW[:3])
    hidden_BSH = model.read(text, torch.zeros_like(text.ids_BS))
    expect_shape("read", hidden_BSH[..., 0], text.ids_BS.shape, "BS")
    expect_shape("project", model.project(hidden_BSH[0]), (len(_ROW), SIZES.target), "NV")
    expect_shape("follows", model.follows(hidden_BSH), (2, 2), "B2")


@torch.inference_mode()
def padding(case: Case) -> None:
    """Padding and the other rows of a batch change no result."""
    model = case.model()
    # BOS and EOS are never predicted.
    alone, padded = (_log_probs(model, _ROW, width)[1 : len(_ROW) - 1] for width in (0, 16))
    expect_same("a row with padding", padded, alone, MASK_PADDING)
    follows = [
        model.follows(model.read(text, torch.zeros_like(text.ids_BS)))[:1]
        for text in (prompt_of(_ROW), prompt_of(_ROW, [BOS, *[9] * 12, EOS]))
    ]
    expect_same("follows in a batch with a longer row", follows[1], follows[0], MASK_PADDING)


def sides(case: Case) -> None:
    """A masked word is predicted from the words on both its sides."""
    if case.is_fitted:
        return
    model = case.model()
    expect_read(
        "the masked word after a change of position",
        _ROW,
        (1, 2, 4, 5),
        9,
        lambda row: _log_probs(model, row)[3],
        "Read both sides.",
    )


@torch.inference_mode()
def segments(case: Case) -> None:
    """The segments of the two sentences change the result."""
    if case.is_fitted:
        return
    model = case.model()
    text = prompt_of([BOS, 5, EOS, 6, EOS])
    one_segment = model.read(text, torch.zeros_like(text.ids_BS))
    two_segments = model.read(text, torch.tensor([[0, 0, 0, 1, 1]]))
    todo = "Add an embedding of segment_BS."
    expect_different("read with another segment", two_segments, one_segment, todo)


CHECKS: tuple[Check, ...] = (shapes, padding, sides, segments)


def _paragraphs(count: int, seed: int) -> pa.Table:
    rng = np.random.default_rng(seed)
    words = np.arange(4, SIZES.source).reshape(2, -1)
    rows = [
        [int(rng.choice(half))] * int(rng.integers(3, 7))
        for half in words[rng.integers(2, size=count)]
        for _ in range(4)
    ]
    return text_table(rows, sentences=4)


@torch.inference_mode()
def _log_probs(model: Any, row: list[int], width: int = 0) -> Tensor:
    text = prompt_of(row, width=width)
    return log_probs(model, model.read(text, torch.zeros_like(text.ids_BS)))[0]
