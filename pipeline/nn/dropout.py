"""Dropout (Srivastava et al. 2014; d2l section 5.6). On a CPU its time is that of drawing random numbers."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """As `F.dropout`, but that on a CPU a random number decides on four elements, `p` being rounded to 1/65,536."""
    if not training or p == 0 or x.device.type != "cpu":
        return F.dropout(x, p, training)
    drawn = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)  # all 64 bits of each
    kept = drawn.view(torch.int16)[: x.numel()].view(x.shape) >= min(round(p * 2**16), 2**16 - 1) - 2**15
    return x * kept.to(x.dtype).mul_(1 / (1 - p))


class Dropout(nn.Dropout):
    """`dropout` as a layer."""

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.p, self.training)
