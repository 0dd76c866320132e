"""Bidirectional language models (Schuster & Paliwal 1997; d2l section 10.4): every word from all
words on both its sides.

One stack of cells reads from the left, another from the right, and they meet only in the
prediction: were their outputs fed to a common second layer, that would see the very word it is to
predict. So the model fills in blanks and cannot be run from left to right. Shapes: B batch, T
positions, W words (T without its two ends), E embedding, H hidden, N positions, V vocabulary."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.contracts import Sizes
from pipeline.core.errors import at_least_one, share
from pipeline.nn.cells import Cell, Implementation, Recurrent
from pipeline.nn.dropout import Dropout


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`model:` of a run; `hidden` and `layers` are those of each direction."""

    cell: Cell
    embedding: int
    hidden: int
    layers: int
    dropout: float
    implementation: Implementation

    def __post_init__(self) -> None:
        at_least_one(embedding=self.embedding, hidden=self.hidden, layers=self.layers)
        share(dropout=self.dropout)


class Model(nn.Module):
    """p(word | the words before it and the words after it)."""

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__()
        c = config
        self.embedding = nn.Embedding(sizes.target, c.embedding)
        self.forwards, self.backwards = (
            Recurrent(c.cell, c.embedding, c.hidden, c.layers, c.dropout, c.implementation)
            for _ in range(2)
        )
        self.dropout = Dropout(c.dropout)
        self.output = nn.Linear(2 * c.hidden, sizes.target)

    def hidden(self, ids_BT: Tensor, length_B: Tensor) -> Tensor:
        """hidden_BW2H of the words of rows from BOS to EOS, `length_B` of their T = W + 2 ids being
        real.

        A word's is what was read up to the word before it and, from the right, down to the word
        after it."""
        x_BTE = self.dropout(self.embedding(ids_BT))
        left_BTH, _ = self.forwards(x_BTE, None)
        mirror_BT = reversed_positions(length_B, ids_BT.shape[1])
        right_BTH, _ = self.backwards(gather_positions(x_BTE, mirror_BT), None)
        both = torch.cat([left_BTH[:, :-2], gather_positions(right_BTH, mirror_BT)[:, 2:]], -1)
        hidden_BW2H: Tensor = self.dropout(both)
        return hidden_BW2H

    def project(self, hidden_NH: Tensor) -> Tensor:
        logits_NV: Tensor = self.output(hidden_NH)
        return logits_NV


def reversed_positions(length_B: Tensor, size: int) -> Tensor:
    """places_BT that read each row's real positions from right to left, and leave the padding where
    it is."""
    place_1T = torch.arange(size, device=length_B.device)[None, :]
    return torch.where(place_1T < length_B[:, None], length_B[:, None] - 1 - place_1T, place_1T)


def gather_positions(x_BTH: Tensor, place_BT: Tensor) -> Tensor:
    """x with its positions taken from the places given."""
    return x_BTH.gather(1, place_BT[:, :, None].expand_as(x_BTH))
