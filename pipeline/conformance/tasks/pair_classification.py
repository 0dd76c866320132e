"""Checks of classifiers of pairs: an entailed hypothesis repeats its premise."""

from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from pipeline.conformance import ADAM, CPU, Case, Check, expect_different, expect_same, expect_shape
from pipeline.conformance.searches import prompt_of
from pipeline.contracts import EOS, Sizes
from pipeline.core import tables
from pipeline.tasks import pair_classification

SIZES = Sizes(16, 2, False)
OPTIM = ADAM
RATES = (0.01, 0.002, 0.03)
EPOCHS = 8
_LEAST = 0.95  # share of right labels


def training(model: Any) -> tuple[pa.Table, pa.Table, pair_classification.Config]:
    """Texts of two words each."""
    objective = pair_classification.Config(
        batch_tokens=400, label_smoothing=0.0, max_length=None, balance="none"
    )
    return _rows(400, 1), _rows(60, 2), objective


@torch.inference_mode()
def outputs(model: Any) -> Tensor:
    """Logits BC of two pairs."""
    logits_BC: Tensor = model.classify_pair(
        prompt_of([5, 6, 7, EOS], [8, EOS]), prompt_of([5, EOS], [4, 9, 8, EOS])
    )
    return logits_BC


def learned(model: Any) -> tuple[bool, str]:
    """By the accuracy on new pairs."""
    test = _rows(200, 3)
    log_probs_NC = pair_classification.log_probs(model, test, None, CPU)
    accuracy = float((log_probs_NC.argmax(1) == test["label"].to_numpy()).mean())
    return accuracy >= _LEAST, f"{accuracy:.0%} of the labels right; expected {_LEAST:.0%}"


def shapes(case: Case) -> None:
    """`classify_pair` gives a logit for each pair and label."""
    expect_shape("classify_pair", outputs(case.model()), (2, SIZES.target), "BC")


@torch.inference_mode()
def padding(case: Case) -> None:
    """Padding and the other pairs of a batch change no logit."""
    model = case.model()
    todo = "Mask the positions from length_B on."
    long = [9] * 19
    for first, second in (([5, EOS], [5, 6, EOS]), ([5, 6, 7, 8, 9, 4, 5, EOS], [4, EOS])):
        alone = model.classify_pair(prompt_of(first), prompt_of(second))
        padded = model.classify_pair(prompt_of(first, width=23), prompt_of(second, width=17))
        name = f"a pair of {len(first)} and {len(second)} ids"
        expect_same(f"{name} with padding", padded, alone, todo)
        beside = model.classify_pair(
            prompt_of(first, [*long, EOS]), prompt_of(second, [*long, 6, EOS])
        )[:1]
        expect_same(f"{name} beside another", beside, alone, todo)


@torch.inference_mode()
def words(case: Case) -> None:
    """Each word of both texts changes the logits."""
    if case.is_fitted:
        return
    model = case.model()
    texts = ([5, 6, 7, EOS], [8, 9, 4, EOS])
    before = model.classify_pair(*map(prompt_of, texts))
    for number, name in enumerate(("premise", "hypothesis")):
        for place in range(3):
            changed = [list(text) for text in texts]
            changed[number][place] = 10
            after = model.classify_pair(*map(prompt_of, changed))
            what = f"a change of word {place} of the {name}"
            expect_different(what, after, before, "Read all of both texts.")


CHECKS: tuple[Check, ...] = (shapes, padding, words)


def _rows(count: int, seed: int) -> pa.Table:
    """The premise has words of 4 to 11; the hypothesis is the same (label 1) or has words of 12 to
    15 (label 0)."""
    rng = np.random.default_rng(seed)
    label_N = rng.integers(0, 2, count)
    premise_N2 = rng.integers(4, 12, (count, 2))
    hypothesis_N2 = np.where(label_N[:, None] == 1, premise_N2, rng.integers(12, 16, (count, 2)))
    columns = [range(count), premise_N2.tolist(), hypothesis_N2.tolist(), label_N]
    return pa.table(columns, schema=tables.ENCODED_LABELLED_PAIR)
