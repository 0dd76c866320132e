"""Positional encodings, sinusoidal or learned (d2l section 11.6.3).

Shapes: B batch, T positions, H width."""

import math

import torch
from torch import Tensor, nn

from pipeline.core.errors import refuse


def sinusoidal_TH(positions: int, width: int) -> Tensor:
    """Sine in even columns, cosine in odd ones, wavelengths from 2 pi to 10000 * 2 pi (Vaswani et
    al. 2017, section 3.5; d2l equation 11.6.2)."""
    position_T1 = torch.arange(positions, dtype=torch.float32)[:, None]
    # 1 / 10000^(2j/H) for each pair of columns j.
    column = torch.arange(0, width, 2, dtype=torch.float32)
    frequency = torch.exp(column * (-math.log(10000.0) / width))

    table_TH = torch.zeros(positions, width)
    table_TH[:, 0::2] = torch.sin(position_T1 * frequency)
    table_TH[:, 1::2] = torch.cos(position_T1 * frequency[: width // 2])
    return table_TH


class Sinusoidal(nn.Module):
    """Sinusoidal encodings of any number of positions; the table grows on demand."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        # Not persistent: saved weights do not depend on the table's size.
        self.register_buffer("table_TH", sinusoidal_TH(512, width), persistent=False)
        self.table_TH: Tensor

    def forward(self, first: int, last: int) -> Tensor:
        """Encodings TH of the positions from `first` to before `last`."""
        # Twice as many as needed, so that token by token decoding rarely computes it anew.
        if last > len(self.table_TH):
            self.table_TH = sinusoidal_TH(2 * last, self.width).to(self.table_TH)
        return self.table_TH[first:last]


class Learned(nn.Module):
    """One trained vector per position (d2l section 15.8.4); UserError for a longer text."""

    def __init__(self, positions: int, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(positions, width)

    def forward(self, first: int, last: int) -> Tensor:
        """Encodings TH of the positions from `first` to before `last`."""
        refuse_longer(self.table.num_embeddings, last, "a text in this batch")
        return self.table.weight[first:last]


def refuse_longer(learned: int, length: int, text: str) -> None:
    """Raise UserError if `length` exceeds the number of `learned` positions.

    `text`: a phrase for the message that names the text of this length."""
    if length > learned:
        todo = "Raise it, or use null: sinusoidal positions have no end."
        raise refuse(
            "model.learned_positions", learned, f"at least {length}, the length of {text}", todo
        )


def positions(learned: int | None, width: int) -> Sinusoidal | Learned:
    """`Learned` encodings of this many positions, or `Sinusoidal` ones for None."""
    return Sinusoidal(width) if learned is None else Learned(learned, width)
