"""The loss of whatever predicts words: cross-entropy, on a CPU by blocks of rows.

Shapes: N positions, V vocabulary, R rows of a block.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

BLOCK = 2**18  # numbers worked on at a time; fewer take longer, and more take memory for little


def summed_cross_entropy(
    logits_NV: Tensor, label_N: Tensor, label_smoothing: float = 0.0
) -> Tensor:
    """The sum of -log softmax at the labels in nats (d2l section 4.1.2), these smoothed (Szegedy et
    al. 2016, section 7).

    On a CPU the gradient takes the place of the logits, which are not to be used afterwards:
    torch's loss writes several tensors of their size, which takes it longer than the sums."""
    if logits_NV.device.type != "cpu" or not logits_NV.requires_grad:
        return F.cross_entropy(
            logits_NV.float(), label_N, reduction="sum", label_smoothing=label_smoothing
        )
    assert not logits_NV.is_leaf
    assert label_N.shape == logits_NV.shape[:1]
    total: Tensor = _CrossEntropy.apply(logits_NV, label_N, label_smoothing)  # type: ignore[no-untyped-call]
    return total


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits_NV: Tensor, label_N: Tensor, label_smoothing: float) -> Tensor:
        words, dtype = logits_NV.shape[1], torch.promote_types(logits_NV.dtype, torch.float32)
        total = torch.zeros((), dtype=dtype)
        rows = max(1, BLOCK // words)
        for block_RV, label_R in zip(
            torch.split(logits_NV, rows), torch.split(label_N, rows), strict=True
        ):
            logits_RV, label_R1 = block_RV.to(dtype), label_R[:, None]
            p_RV = logits_RV.softmax(1)
            # log Z by the likeliest word, of which p is no less than 1/V: another's may be 0
            log_z_R1 = logits_RV.amax(1, keepdim=True) - p_RV.amax(1, keepdim=True).log()
            target_R1 = (1 - label_smoothing) * logits_RV.gather(1, label_R1)
            if label_smoothing:
                target_R1 += label_smoothing * logits_RV.mean(1, keepdim=True)
                p_RV -= label_smoothing / words
            total += (log_z_R1 - target_R1).sum()
            block_RV.copy_(
                p_RV.scatter_add_(1, label_R1, torch.full_like(target_R1, label_smoothing - 1))
            )
        # The logits hold the gradient now; autograd refuses them once they are written again.
        ctx.save_for_backward(logits_NV)
        return total

    @staticmethod
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor, None, None]:
        (gradient_NV,) = ctx.saved_tensors
        return gradient_NV.detach().mul_(scale), None, None
