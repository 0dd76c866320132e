"""Checks of models that a search decodes from."""

from typing import Any

import torch

from pipeline.conformance import expect, expect_same, expect_shape
from pipeline.contracts import Prompt


@torch.inference_mode()
def check_step(model: Any, prompt: Prompt, vocabulary: int) -> None:
    """Failed unless `step` gives normalised log-probabilities in float32."""
    state, first_B = model.begin(prompt)
    expect(first_B.dtype == torch.int64, f"begin: got ids of {first_B.dtype}; expected int64.")
    log_probs_BV, _ = model.step(state, first_B)
    expect_shape("step", log_probs_BV, (len(prompt.length_B), vocabulary), "BV")
    expect(
        log_probs_BV.dtype == torch.float32,
        f"step: got {log_probs_BV.dtype}; expected float32. Use .float().log_softmax(-1).",
    )
    total_B = log_probs_BV.exp().sum(1)
    todo = "Return log_softmax(-1), not logits."
    expect_same("step, the sum of the probabilities", total_B, torch.ones_like(total_B), todo)


@torch.inference_mode()
def check_states(model: Any, prompt: Prompt) -> None:
    """Failed unless `reorder` selects rows, and neither it nor `step` changes the state."""
    state, first_B = model.begin(prompt)
    _, state = model.step(state, first_B)
    last_B = torch.tensor([6, 7])
    expected, _ = model.step(state, last_B)
    for rows in ([1, 0], [0], [1, 1, 0]):
        rows_B = torch.tensor(rows)
        moved, _ = model.step(model.reorder(state, rows_B), last_B[rows_B])
        todo = "Let `reorder` select rows_B of each tensor."
        expect_same(f"rows {rows}", moved, expected[rows_B], todo)
    again, _ = model.step(state, last_B)
    todo = "Return new tensors: `step` and `reorder` must not change the state that they get."
    expect_same("the same step again", again, expected, todo)
