"""Checks of classifiers: one word of a text decides between two labels."""

from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from pipeline.conformance import ADAM, CPU, Case, Check, expect_same, expect_shape
from pipeline.conformance.rows import MASK_PADDING, accuracy, expect_read, prompt_of
from pipeline.contracts import EOS, Sizes
from pipeline.core import tables
from pipeline.tasks import classification

EXAMPLE = "pipeline.models.mlp_classifier"
SIZES = Sizes(12, 2, False)
OPTIM = ADAM
RATES = (0.01, 0.002, 0.03)
EPOCHS = 8
_LEAST = 0.95  # share of right labels


def training(model: Any) -> tuple[pa.Table, pa.Table, classification.Config]:
    """Texts of two words."""
    objective = classification.Config(
        batch_tokens=200, label_smoothing=0.0, max_length=None, balance="none"
    )
    return _rows(400, 1), _rows(60, 2), objective


@torch.inference_mode()
def outputs(model: Any) -> Tensor:
    """Logits BC of two texts."""
    logits_BC: Tensor = model.classify(prompt_of([5, 6, 7, EOS], [8, EOS]))
    return logits_BC


def learned(model: Any) -> tuple[bool, str]:
    """By the accuracy on new texts."""
    test = _rows(200, 3)
    log_probs_NC = classification.log_probs(model, test["ids"], None, CPU)
    return accuracy(log_probs_NC, test, _LEAST)


def shapes(case: Case) -> None:
    """`classify` gives a logit for each text and label."""
    expect_shape("classify", outputs(case.model()), (2, SIZES.target), "BC")


@torch.inference_mode()
def padding(case: Case) -> None:
    """Padding and the other texts of a batch change no logit."""
    model = case.model()
    for row in ([5, EOS], [5, 6, EOS], [5, 6, 7, 8, 9, 4, 5, EOS]):
        alone = model.classify(prompt_of(row))
        padded = model.classify(prompt_of(row, width=23))
        expect_same(f"a text of {len(row)} ids with padding", padded, alone, MASK_PADDING)
        batched = model.classify(prompt_of(row, [9] * 19, [4, EOS]))[:1]
        expect_same(f"a text of {len(row)} ids in a batch", batched, alone, MASK_PADDING)


@torch.inference_mode()
def words(case: Case) -> None:
    """Each word of a text changes its logits."""
    if case.is_fitted:
        return
    model = case.model()
    expect_read(
        "a change of word",
        [5, 6, 7, 8, EOS],
        range(4),
        10,
        lambda row: model.classify(prompt_of(row)),
        "Read all of the text.",
    )


CHECKS: tuple[Check, ...] = (shapes, padding, words)


def _rows(count: int, seed: int) -> pa.Table:
    """A word of any text, and a word of the label, in either order."""
    rng = np.random.default_rng(seed)
    label_N = rng.integers(0, 2, count)
    neutral_N = rng.integers(4, 8, count)
    polar_N = 8 + 2 * label_N + rng.integers(0, 2, count)
    texts = [rng.permutation(pair).tolist() for pair in zip(neutral_N, polar_N, strict=True)]
    columns = [range(count), texts, label_N]
    return pa.table(columns, schema=tables.ENCODED_LABELLED)
