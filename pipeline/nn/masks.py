"""Attention masks: True where attention is allowed.

Shapes: B batch, S source, T steps, K keys."""

import torch
from torch import Tensor


def real_BS(length_B: Tensor, size: int) -> Tensor:
    """Padding mask: True at the first length_B[b] of `size` positions."""
    return torch.arange(size, device=length_B.device)[None, :] < length_B[:, None]


def causal_TK(size: int, past: int, device: torch.device) -> Tensor:
    """Causal mask of `size` steps that follow `past` cached ones: True where key k is not after
    step t (d2l section 11.7.5)."""
    # The diagonal of step 0 is column `past`, its own position.
    return torch.ones(size, past + size, dtype=torch.bool, device=device).tril(past)
