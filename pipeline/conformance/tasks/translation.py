"""Checks of translators: the sorted numbers of a list, each as its partner, are its translation."""

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
    expect,
    expect_same,
    expect_shape,
    is_trained,
    log_probs,
)
from pipeline.conformance.rows import MASK_PADDING, expect_read, perplexity, prompt_of
from pipeline.conformance.searches import check_states, check_step
from pipeline.contracts import BOS, EOS, Attentive, AttentiveDecodable, Prompt, Sizes
from pipeline.core import tables
from pipeline.tasks import translation

EXAMPLE = "pipeline.models.seq2seq"
SIZES = Sizes(14, 14, True)
OPTIM = ADAM
RATES = (0.005, 0.001, 0.02)
EPOCHS = 12
_LEAST = 0.7  # share of right translations
_STEPS = "Let `step` compute what `hidden` and `project` do, from the state alone."


def training(model: Any) -> tuple[pa.Table, pa.Table, translation.Config]:
    """Lists of 2 or 3 numbers."""
    objective = translation.Config(
        batch_tokens=120,
        label_smoothing=0.0,
        max_length=40,
        scheduled_sampling=None,
        padding_in_loss=False,
    )
    return _rows(800, 1), _rows(40, 2), objective


def outputs(model: Any) -> Tensor:
    """Log-probabilities BTV of two targets."""
    prompt, target_BT = _pair()
    with torch.inference_mode():
        return _log_probs(model, prompt, target_BT)


def learned(model: Any) -> tuple[bool, str]:
    """By greedy search; a fitted model must be better than chance alone."""
    test = _rows(100, 3)
    if not is_trained(model):
        nats, count = translation.likelihood(model, test, None, CPU)
        return perplexity(nats, count, SIZES.target)

    right = 0
    for rows, prompt in translation.prompts(test, CPU):
        for row, output in zip(rows, _greedy(model, prompt).tolist(), strict=True):
            expected = [*test["target"][int(row)].as_py(), EOS]
            right += output[: len(expected)] == expected
    line = f"{right} of {len(test)} translations right; expected {_LEAST * len(test):.0f}"
    return right >= _LEAST * len(test), line


def shapes(case: Case) -> None:
    """Outputs have their shapes and types, and log-probabilities sum to 1."""
    model = case.model()
    prompt, target_BT = _pair()
    with torch.inference_mode():
        hidden_BTH = model.hidden(prompt, target_BT)
        expect(hidden_BTH.dim() == 3, f"hidden: got shape {tuple(hidden_BTH.shape)}; expected BTH.")
        expect_shape("hidden", hidden_BTH[..., 0], target_BT.shape, "BT")
        logits_NV = model.project(hidden_BTH.flatten(0, 1))
        expect_shape("project", logits_NV, (target_BT.numel(), SIZES.target), "NV")
        _, first_B = model.begin(prompt)
        expect(
            torch.equal(first_B, target_BT[:, 0]),
            f"begin: got first ids {first_B.tolist()}; expected BOS, {BOS}, for each row.",
        )
        check_step(model, prompt, SIZES.target)


def padding(case: Case) -> None:
    """Padding and the other rows of a batch change no result."""
    model = case.model()
    row, target_1T = [5, 6, EOS], torch.tensor([[BOS, 7, 8, 9]])
    alone = _log_probs(model, prompt_of(row), target_1T)
    padded = _log_probs(model, prompt_of(row, width=9), target_1T)
    expect_same("a source with padding", padded, alone, MASK_PADDING)

    longer = torch.cat([torch.nn.functional.pad(target_1T, (0, 3)), torch.full((1, 7), 6)])
    batched = _log_probs(model, prompt_of(row, [4] * 8 + [EOS]), longer)
    expect_same("a row in a batch with a longer one", batched[:1, :4], alone, MASK_PADDING)


def causality(case: Case) -> None:
    """No target token is predicted from itself or from those after it."""
    model = case.model()
    prompt, target_1T = prompt_of([5, 6, 7, EOS]), torch.tensor([[BOS, 4, 5, 6, 7]])
    before = _log_probs(model, prompt, target_1T)
    for t in range(1, 5):
        changed = target_1T.clone()
        changed[0, t] = 12
        after = _log_probs(model, prompt, changed)
        todo = "Let `hidden` at a position read no later id of the target, for example by a mask."
        expect_same(f"predictions before a change of token {t}", after[:, :t], before[:, :t], todo)


def source(case: Case) -> None:
    """Each token of the source changes the prediction."""
    if case.is_fitted:
        return
    model = case.model()
    target_1T = torch.tensor([[BOS, 4, 5]])
    expect_read(
        "a change of source token",
        [5, 6, 7, EOS],
        range(3),
        9,
        lambda row: _log_probs(model, prompt_of(row), target_1T),
        "Read all of the source.",
    )


def steps(case: Case) -> None:
    """Decoding step by step, from a cache, equals teacher forcing."""
    model = case.model()
    prompt, target_BT = _pair()
    forced = _log_probs(model, prompt, target_BT)
    with torch.inference_mode():
        state, _ = model.begin(prompt)
        for t in range(target_BT.shape[1]):
            log_probs_BV, state = model.step(state, target_BT[:, t])
            expect_same(f"step {t + 1}", log_probs_BV, forced[:, t], _STEPS)


def states(case: Case) -> None:
    """A state is a value: rows can be moved, repeated and dropped, and old states stay valid."""
    model = case.model()
    check_states(model, _pair()[0])


def attention(case: Case) -> None:
    """Attention weights, if there are any, are distributions over the real source tokens."""
    model = case.model()
    if not isinstance(model, Attentive):
        return
    prompt, target_BT = _pair()
    with torch.inference_mode():
        weights = model.attention(prompt, target_BT)
        for name, weights_BTS in weights.items():
            shape = (*target_BT.shape, prompt.ids_BS.shape[1])
            expect_shape(f"attention, {name}", weights_BTS, shape, "BTS")
            total_BT = weights_BTS.sum(-1)
            todo = "Apply the softmax over the source."
            expect_same(f"attention, {name}, the sum", total_BT, torch.ones_like(total_BT), todo)
            outside = weights_BTS[1, :, int(prompt.length_B[1]) :]
            todo = "Mask the positions from length_B on."
            expect_same(f"attention, {name}, padding", outside, torch.zeros_like(outside), todo)
        if isinstance(model, AttentiveDecodable):
            _check_attentive_step(model, prompt)


def _check_attentive_step(model: Any, prompt: Prompt) -> None:
    state, first_B = model.begin(prompt)
    plain_BV, _ = model.step(state, first_B)
    log_probs_BV, _, weights_BS = model.step_with_attention(state, first_B)
    expect_same("step_with_attention", log_probs_BV, plain_BV, "Return what `step` does.")
    expect_shape("step_with_attention", weights_BS, prompt.ids_BS.shape, "BS")
    total_B = weights_BS.sum(-1)
    todo = "Return one distribution: the mean of several heads."
    expect_same("step_with_attention, the sum", total_B, torch.ones_like(total_B), todo)


CHECKS: tuple[Check, ...] = (shapes, padding, causality, source, steps, states, attention)


def _rows(count: int, seed: int) -> pa.Table:
    rng = np.random.default_rng(seed)
    numbers = np.arange(4, SIZES.source)
    sources = [rng.choice(numbers, rng.integers(2, 4), replace=False) for _ in range(count)]
    targets = [(4 + (np.sort(row) - 4 + 3) % len(numbers)).tolist() for row in sources]
    columns = [range(count), [row.tolist() for row in sources], targets]
    return pa.table(columns, schema=tables.ENCODED_PAIR)


def _pair() -> tuple[Prompt, Tensor]:
    """Two sources of unlike lengths, with a target each."""
    target_BT = torch.tensor([[BOS, 4, 5, 6], [BOS, 7, 8, 9]])
    return prompt_of([5, 6, 7, 8, EOS], [9, EOS]), target_BT


@torch.inference_mode()
def _log_probs(model: Any, prompt: Prompt, target_BT: Tensor) -> Tensor:
    return log_probs(model, model.hidden(prompt, target_BT))


@torch.inference_mode()
def _greedy(model: Any, prompt: Prompt) -> Tensor:
    state, last_B = model.begin(prompt)
    ids = []
    for _ in range(4):
        log_probs_BV, state = model.step(state, last_B)
        last_B = log_probs_BV.argmax(-1)
        ids.append(last_B)
    return torch.stack(ids, 1)
