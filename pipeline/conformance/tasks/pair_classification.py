"""Checks of classifiers of pairs: three telling words, two of them in the premise, decide by their
majority between two labels."""

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
)
from pipeline.conformance.searches import prompt_of
from pipeline.contracts import EOS, Sizes
from pipeline.core import tables
from pipeline.tasks import pair_classification

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
    accuracy = float((log_probs_NC.argmax(1) == test["label"].to_numpy()).mean())
    least = _LEAST if is_trained(model) else 0.4
    return accuracy >= least, f"{accuracy:.0%} of the labels right; expected {least:.0%}"


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
    todo = "Mask the positions from length_B on, of both texts."
    expect_same("a pair with padding", padded, alone, todo)
    beside = model.classify_pair(
        prompt_of(first, [*[9] * 12, EOS]), prompt_of(second, [*[6] * 14, EOS])
    )[:1]
    expect_same("a pair beside a longer one", beside, alone, todo)


@torch.inference_mode()
def words(case: Case) -> None:
    """Each word of both texts changes the logits."""
    if case.is_fitted:
        return
    model = case.model()
    texts = {"premise": [5, 6, 7, EOS], "hypothesis": [4, 9, EOS]}
    before = model.classify_pair(*(prompt_of(row) for row in texts.values()))
    for name, row in texts.items():
        for place in range(len(row) - 1):
            changed = list(row)
            changed[place] = 10
            pair = (prompt_of(text) for text in (texts | {name: changed}).values())
            what = f"a change of word {place} of the {name}"
            expect_different(what, model.classify_pair(*pair), before, "Read both texts.")


CHECKS: tuple[Check, ...] = (shapes, padding, words)


def _rows(count: int, seed: int) -> pa.Table:
    """Words 4 to 7 say nothing; 8 and 9 are for the label 0, 10 and 11 for the label 1."""
    rng = np.random.default_rng(seed)
    telling_N3 = rng.integers(0, 2, (count, 3))
    word_N3 = 8 + 2 * telling_N3 + rng.integers(0, 2, (count, 3))
    other_N2 = rng.integers(4, 8, (count, 2))
    premises = [
        rng.permutation([first, second, other]).tolist()
        for (first, second, _), (other, _) in zip(word_N3, other_N2, strict=True)
    ]
    hypotheses = [
        rng.permutation([third, other]).tolist()
        for (_, _, third), (_, other) in zip(word_N3, other_N2, strict=True)
    ]
    label_N = (telling_N3.sum(1) >= 2).astype(int)
    columns = [range(count), premises, hypotheses, label_N]
    return pa.table(columns, schema=tables.ENCODED_LABELLED_PAIR)
