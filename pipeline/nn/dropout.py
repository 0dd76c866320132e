"""Dropout (Srivastava et al. 2014; d2l section 5.6) with fewer random bits on a CPU, where drawing
them takes most of the time.

Torch's recurrent kernels have their own dropout between layers."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """As `F.dropout` for `p` below 1. On a CPU 16 random bits decide on an element, so `p` is
    rounded to a multiple of 1/65,536."""
    if not training or p == 0 or x.device.type != "cpu":
        return F.dropout(x, p, training)

    # Number of the 2**16 values of an int16 that drop an element; never all of them.
    dropped = min(round(p * 2**16), 2**16 - 1)
    # Draw 64 bits at a time (None: the whole range of int64), for four elements each.
    random_bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    keep = random_bits.view(torch.int16)[: x.numel()].view(x.shape) >= dropped - 2**15

    # Inverted dropout: scale what is kept, so that the expectation stays (d2l equation 5.6.1).
    return x * keep.to(x.dtype).mul_(2**16 / (2**16 - dropped))


class Dropout(nn.Dropout):
    """Layer of `dropout`."""

    def __init__(self, p: float) -> None:
        super().__init__(p)

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.p, self.training)
