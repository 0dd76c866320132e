"""Pooling of a text's positions to one vector. Shapes: B batch, S positions, H width."""

from torch import Tensor

from pipeline.nn.masks import real_BS


def mean_BH(x_BSH: Tensor, length_B: Tensor) -> Tensor:
    """Mean over the first length_B[b] positions of each row; padding is ignored."""
    real_BS1 = real_BS(length_B, x_BSH.shape[1])[:, :, None]
    # Zero the padding before the sum; divide by the number of real positions.
    total_BH: Tensor = x_BSH.masked_fill(~real_BS1, 0.0).sum(1)
    return total_BH / length_B[:, None]
