"""The loss of whatever predicts words: cross-entropy, on a CPU by blocks of rows.

Shapes: N positions, V vocabulary, R rows of a block.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 2**18  # numbers worked on at a time, so that they stay in a core's cache


def summed_cross_entropy(logits_NV: Tensor, label_N: Tensor, smoothing: float = 0.0) -> Tensor:
    """The sum of -log softmax at the labels in nats (d2l section 4.1.2), these smoothed (Szegedy et al. 2016, section 7).

    On a CPU the logits' gradient takes the logits' place, as torch's five tensors of their size cost more than the sums.
    """
    if logits_NV.device.type != "cpu":
        return F.cross_entropy(logits_NV.float(), label_N, reduction="sum", label_smoothing=smoothing)
    total: Tensor = _InPlace.apply(logits_NV, label_N, smoothing)  # type: ignore[no-untyped-call]
    return total


class _InPlace(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits_NV: Tensor, label_N: Tensor, smoothing: float) -> Tensor:
        words, wide = logits_NV.shape[1], torch.promote_types(logits_NV.dtype, torch.float32)
        total = torch.zeros((), dtype=wide)
        rows = max(1, BLOCK // words)
        for kept_RV, label_R in zip(torch.split(logits_NV, rows), torch.split(label_N, rows), strict=True):
            logits_RV, label_R1 = kept_RV.to(wide), label_R[:, None]
            p_RV = logits_RV.softmax(1)
            log_z_R1 = (
                logits_RV.amax(1, keepdim=True) - p_RV.amax(1, keepdim=True).log()
            )  # the largest p is no less than 1/V
            aim_R1 = (1 - smoothing) * logits_RV.gather(1, label_R1)
            if smoothing:
                aim_R1 += smoothing * logits_RV.mean(1, keepdim=True)
                p_RV -= smoothing / words
            total += (log_z_R1 - aim_R1).sum()
            kept_RV.copy_(p_RV.scatter_add_(1, label_R1, torch.full_like(aim_R1, smoothing - 1)))
        ctx.gradient_NV = logits_NV
        return total

    @staticmethod
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor, None, None]:
        gradient_NV, ctx.gradient_NV = ctx.gradient_NV, None
        assert gradient_NV is not None, "the loss has one backward pass"
        return gradient_NV.mul_(scale), None, None
