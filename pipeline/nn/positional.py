"""Positional encodings, computed or learned. Shapes: B batch, T positions, H width."""

import math

import torch
from torch import Tensor, nn

from pipeline.core.errors import refuse


def sinusoidal_TH(positions: int, width: int) -> Tensor:
    """Sine in even columns, cosine in odd, wavelengths from 2 pi to 10000 * 2 pi (Vaswani et al.
    2017, section 3.5)."""
    position_T1 = torch.arange(positions, dtype=torch.float32)[:, None]
    rate = torch.exp(torch.arange(0, width, 2, dtype=torch.float32) * (-math.log(10000.0) / width))
    table_TH = torch.zeros(positions, width)
    table_TH[:, 0::2] = torch.sin(position_T1 * rate)
    table_TH[:, 1::2] = torch.cos(position_T1 * rate[: width // 2])
    return table_TH


class Sinusoidal(nn.Module):
    """Computed encodings of any number of positions (d2l section 11.6.3)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.register_buffer("table_TH", sinusoidal_TH(512, width), persistent=False)
        self.table_TH: Tensor

    def forward(self, first: int, last: int) -> Tensor:
        """The encodings TH of the positions from `first` to before `last`."""
        if last > len(self.table_TH):
            self.table_TH = sinusoidal_TH(2 * last, self.width).to(self.table_TH)
        return self.table_TH[first:last]


class Learned(nn.Module):
    """One vector per position (d2l section 15.8.4); text beyond the last of them is refused."""

    def __init__(self, positions: int, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(positions, width)

    def forward(self, first: int, last: int) -> Tensor:
        """The encodings TH of the positions from `first` to before `last`."""
        refuse_longer(self.table.num_embeddings, last, "a text met here")
        return self.table.weight[first:last]


def refuse_longer(learned: int, length: int, text: str) -> None:
    """UserError if `text` (a phrase for messages) of `length` positions has more than the `learned`
    ones."""
    if length > learned:
        todo = "Raise it, or use null: sinusoidal positions have no end."
        raise refuse(
            "model.learned_positions", learned, f"at least {length}, the length of {text}", todo
        )


def positions(learned: int | None, width: int) -> Sinusoidal | Learned:
    """Encodings learned for so many positions, or, for None, sinusoidal ones."""
    return Sinusoidal(width) if learned is None else Learned(learned, width)
