"""Bidirectional language models (Schuster & Paliwal 1997; d2l section 10.4): every word given the
words on both its sides.

One stack of cells reads from the left, another from the right, and only the output layer joins
them. A common second layer would have the word that it is to predict among its inputs. The model
fills in blanks; it cannot generate text from left to right.

Shapes: B batch, T positions, W words (T without BOS and EOS), E embedding, H hidden, N positions, V
vocabulary."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.contracts import Sizes
from pipeline.core.errors import at_least_one, share
from pipeline.nn import cells
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
        cells.check(self.cell, self.implementation)


class Model(nn.Module):
    """p(word | the words before it and the words after it)."""

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__()
        c = config
        self.embedding = nn.Embedding(sizes.target, c.embedding)
        # Two stacks of separate weights, one for each direction (d2l equation 10.4.1).
        self.forwards, self.backwards = (
            Recurrent(c.cell, c.embedding, c.hidden, c.layers, c.dropout, c.implementation)
            for _ in range(2)
        )
        self.dropout = Dropout(c.dropout)
        # Input: forward and backward states, concatenated.
        self.output = nn.Linear(2 * c.hidden, sizes.target)

    def hidden(self, ids_BT: Tensor, length_B: Tensor) -> Tensor:
        """hidden_BW2H of the words of rows from BOS to EOS. The first length_B[b] of the T = W + 2
        ids are real, the others PAD.

        A word's vector joins the forward state of the word before it and the backward state of the
        word after it."""
        x_BTE = self.dropout(self.embedding(ids_BT))
        forward_BTH, _ = self.forwards(x_BTE, None)

        # Backwards: reverse each row without its padding, run forwards, and reverse the outputs.
        reversed_BT = reversed_positions(length_B, ids_BT.shape[1])
        backward_BTH, _ = self.backwards(gather_positions(x_BTE, reversed_BT), None)
        backward_BTH = gather_positions(backward_BTH, reversed_BT)

        # Word t: forward state t-1 and backward state t+1 (d2l equation 10.4.2 has both at t).
        context_BW2H = torch.cat([forward_BTH[:, :-2], backward_BTH[:, 2:]], -1)
        hidden_BW2H: Tensor = self.dropout(context_BW2H)
        return hidden_BW2H

    def project(self, hidden_NH: Tensor) -> Tensor:
        logits_NV: Tensor = self.output(hidden_NH)
        return logits_NV


def reversed_positions(length_B: Tensor, size: int) -> Tensor:
    """Positions BT that reverse the first length_B[b] of `size` positions; padding keeps its
    place."""
    position_1T = torch.arange(size, device=length_B.device)[None, :]
    last_B1 = length_B[:, None] - 1
    return torch.where(position_1T <= last_B1, last_B1 - position_1T, position_1T)


def gather_positions(x_BTH: Tensor, position_BT: Tensor) -> Tensor:
    """Select position_BT[b, t] of x for each output position t."""
    return x_BTH.gather(1, position_BT[:, :, None].expand_as(x_BTH))
