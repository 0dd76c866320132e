"""Position encodings. Shapes: T positions, H width."""

import math

import torch
from torch import Tensor


def sinusoidal_TH(positions: int, width: int) -> Tensor:
    """Sine in even columns, cosine in odd, wavelengths from 2 pi to 10000 * 2 pi (Vaswani et al. 2017, section 3.5)."""
    position_T1 = torch.arange(positions, dtype=torch.float32)[:, None]
    rate = torch.exp(torch.arange(0, width, 2, dtype=torch.float32) * (-math.log(10000.0) / width))
    table_TH = torch.zeros(positions, width)
    table_TH[:, 0::2] = torch.sin(position_T1 * rate)
    table_TH[:, 1::2] = torch.cos(position_T1 * rate[: width // 2])
    return table_TH
