"""Checks of classifiers of pairs: three words, two of them in the premise, decide by their majority
between two labels."""

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
    expect_same,
    expect_shape,
    is_trained,
)
from pipeline.conformance.rows import MASK_PADDING, accuracy, expect_read, prompt_of
from pipeline.contracts import EOS, Sizes
from pipeline.core import tables
from pipeline.tasks import pair_classification

EXAMPLE = "pipeline.models.decomposable_attention"
SIZES = Sizes(12, 2, False)
OPTIM = ADAM
RATES = (0.005, 0.001, 0.02)
EPOCHS = 8
_LEAST = 0.9  # share of right labels; by the hypothesis alone it is three quarters


def training(model: Any) -> tuple[pa.Table, pa.Table, pair_classification.Config]:
    """Pairs of a premise of three words and a hypothesis of two."""
    objective = pair_classification.Config(
        batch_tokens=300, label_smoothing=0.0, balance="none", max_length=None
    )
    return _rows(800, 1), _rows(60, 2), objective


@torch.inference_mode()
def outputs(model: Any) -> Tensor:
    """Logits BC of two pairs."""
    premise, hypothesis = prompt_of([5, 6, 7, EOS], [8, EOS]), prompt_of([9, EOS], [4, 10, EOS])
    logits_BC: Tensor = model.classify_pair(premise, hypothesis)
    return logits_BC


def learned(model: Any) -> tuple[bool, str]:
    """By the accuracy on new pairs; a fitted model may be as bad as chance."""
    test = _rows(200, 3)
    log_probs_NC = pair_classification.log_probs(model, test, None, CPU)
    return accuracy(log_probs_NC, test, _LEAST if is_trained(model) else 0.4)


def shapes(case: Case) -> None:
    """`classify_pair` gives a logit for each pair and label."""
    expect_shape("classify_pair", outputs(case.model()), (2, SIZES.target), "BC")


@torch.inference_mode()
def padding(case: Case) -> None:
    """Padding and the other pairs of a batch change no logit."""
    model = case.model()
    first, second = [5, 6, 7, EOS], [4, 9, EOS]
    alone = model.classify_pair(prompt_of(first), prompt_of(second))
    padded = model.classify_pair(prompt_of(first, width=17), prompt_of(second, width=9))
    expect_same("a pair with padding", padded, alone, MASK_PADDING)
    batched = model.classify_pair(
        prompt_of(first, [*[9] * 12, EOS]), prompt_of(second, [*[6] * 14, EOS])
    )[:1]
    expect_same("a pair in a batch with a longer one", batched, alone, MASK_PADDING)


@torch.inference_mode()
def words(case: Case) -> None:
    """Each word of both texts changes the logits."""
    if case.is_fitted:
        return
    model = case.model()
    premise, hypothesis = [5, 6, 7, EOS], [4, 9, EOS]
    expect_read(
        "a change of the premise's word",
        premise,
        range(3),
        10,
        lambda row: model.classify_pair(prompt_of(row), prompt_of(hypothesis)),
        "Read all of the premise.",
    )
    expect_read(
        "a change of the hypothesis's word",
        hypothesis,
        range(2),
        10,
        lambda row: model.classify_pair(prompt_of(premise), prompt_of(row)),
        "Read all of the hypothesis.",
    )


CHECKS: tuple[Check, ...] = (shapes, padding, words)


def _rows(count: int, seed: int) -> pa.Table:
    """Words 4 to 7 are neutral; 8 and 9 are for the label 0, 10 and 11 for the label 1."""
    rng = np.random.default_rng(seed)
    vote_N3 = rng.integers(0, 2, (count, 3))
    word_N3 = 8 + 2 * vote_N3 + rng.integers(0, 2, (count, 3))
    neutral_N2 = rng.integers(4, 8, (count, 2))
    premises = [
        rng.permutation([first, second, neutral]).tolist()
        for (first, second, _), (neutral, _) in zip(word_N3, neutral_N2, strict=True)
    ]
    hypotheses = [
        rng.permutation([third, neutral]).tolist()
        for (_, _, third), (_, neutral) in zip(word_N3, neutral_N2, strict=True)
    ]
    label_N = (vote_N3.sum(1) >= 2).astype(int)
    columns = [range(count), premises, hypotheses, label_N]
    return pa.table(columns, schema=tables.ENCODED_LABELLED_PAIR)
