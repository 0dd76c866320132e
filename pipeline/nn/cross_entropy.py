"""Cross-entropy over a vocabulary, computed on a CPU in blocks of rows.

Shapes: N positions, V vocabulary, R rows of a block.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

# Logits per block. Fewer take longer; more take memory and gain little speed.
BLOCK = 2**18
SMALL = 1000  # words up to which torch's loss is as fast (benchmarks/loss_and_dropout.py)


def summed_cross_entropy(
    logits_NV: Tensor, label_N: Tensor, label_smoothing: float = 0.0
) -> Tensor:
    """Sum of -log softmax at the labels, in nats (d2l section 4.1.2), with label smoothing (Szegedy
    et al. 2016, section 7).

    On a CPU the gradient overwrites the logits, so do not use them afterwards. Torch's loss writes
    several tensors of their size, which takes longer than the arithmetic."""
    is_small = logits_NV.shape[1] < SMALL
    if logits_NV.device.type != "cpu" or is_small or not logits_NV.requires_grad:
        logits_NV = logits_NV.to(torch.promote_types(logits_NV.dtype, torch.float32))
        return F.cross_entropy(logits_NV, label_N, reduction="sum", label_smoothing=label_smoothing)

    # The gradient overwrites the logits: a leaf is the caller's parameter and must not change.
    assert not logits_NV.is_leaf
    assert label_N.shape == logits_NV.shape[:1]
    total: Tensor = _CrossEntropy.apply(logits_NV, label_N, label_smoothing)  # type: ignore[no-untyped-call]
    return total


class _CrossEntropy(torch.autograd.Function):
    """Cross-entropy whose forward pass computes the gradient too: softmax minus smoothed label."""

    @staticmethod
    def forward(ctx: Any, logits_NV: Tensor, label_N: Tensor, label_smoothing: float) -> Tensor:
        vocabulary = logits_NV.shape[1]
        dtype = torch.promote_types(logits_NV.dtype, torch.float32)
        total = torch.zeros((), dtype=dtype)
        rows = max(1, BLOCK // vocabulary)
        for block_RV, label_R in zip(
            torch.split(logits_NV, rows), torch.split(label_N, rows), strict=True
        ):
            logits_RV = block_RV.to(dtype)
            label_R1 = label_R[:, None]
            p_RV = logits_RV.softmax(1)

            # log Z = logit - log p of any word. The likeliest has p >= 1/V; others may have 0.
            log_z_R1 = logits_RV.amax(1, keepdim=True) - p_RV.amax(1, keepdim=True).log()
            target_R1 = (1 - label_smoothing) * logits_RV.gather(1, label_R1)
            if label_smoothing:
                target_R1 += label_smoothing * logits_RV.mean(1, keepdim=True)
                p_RV -= label_smoothing / vocabulary
            total += (log_z_R1 - target_R1).sum()

            # Gradient: softmax minus the label's distribution (d2l equation 4.1.10).
            block_RV.copy_(
                p_RV.scatter_add_(1, label_R1, torch.full_like(target_R1, label_smoothing - 1))
            )

        # The logits hold the gradient now. Autograd raises an error if they are written again.
        ctx.save_for_backward(logits_NV)
        return total

    @staticmethod
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor, None, None]:
        (gradient_NV,) = ctx.saved_tensors
        return gradient_NV.detach().mul_(scale), None, None
