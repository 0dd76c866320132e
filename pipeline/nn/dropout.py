"""Dropout (Srivastava et al. 2014; d2l section 5.6), of which a CPU's time is that of drawing
random numbers.

torch's recurrent kernels have their own between layers.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """As `F.dropout` for `p` below 1, but that on a CPU 16 random bits decide on an element: `p` is
    rounded to 1/65,536."""
    if not training or p == 0 or x.device.type != "cpu":
        return F.dropout(x, p, training)
    # 65,536 are dropped; not all, however near p comes to 1
    of_each = min(round(p * 2**16), 2**16 - 1)
    # all 64 bits of each
    drawn = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    keep = drawn.view(torch.int16)[: x.numel()].view(x.shape) >= of_each - 2**15
    return x * keep.to(x.dtype).mul_(2**16 / (2**16 - of_each))


class Dropout(nn.Dropout):
    """`dropout` as a layer."""

    def __init__(self, p: float) -> None:
        super().__init__(p)

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.p, self.training)
