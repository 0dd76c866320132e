"""Which positions may be looked at. Shapes: B batch, S source, T target. True means: look."""

import torch
from torch import Tensor


def real_BS(length_B: Tensor, size: int) -> Tensor:
    """True at the first length_B[b] of `size` positions."""
    return torch.arange(size, device=length_B.device)[None, :] < length_B[:, None]


def causal_TT(size: int, device: torch.device) -> Tensor:
    """True where the column is not after the row: a step sees itself and its past (d2l section 11.7.5)."""
    return torch.ones(size, size, dtype=torch.bool, device=device).tril()
