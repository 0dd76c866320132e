"""Attention masks: True where a position may be attended to. Shapes: B batch, S source, T steps, K
keys."""

import torch
from torch import Tensor


def real_BS(length_B: Tensor, size: int) -> Tensor:
    """True at the first length_B[b] of `size` positions."""
    return torch.arange(size, device=length_B.device)[None, :] < length_B[:, None]


def causal_TK(size: int, past: int, device: torch.device) -> Tensor:
    """For `size` steps that follow `past` others: True where column k is not after step t (d2l
    section 11.7.5)."""
    return torch.ones(size, past + size, dtype=torch.bool, device=device).tril(past)
