"""Encoder-decoder without attention: a single vector encodes the source (Cho et al. 2014; d2l
sections 10.6 and 10.7).

The encoder's last output is the context, an input of every decoder step. Its final state is the
decoder's initial state.

Shapes: B batch, S source, T target, E embedding, H hidden, C context, V
vocabulary, N positions, L layers."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pipeline.contracts import BOS, Prompt, Sizes
from pipeline.core.errors import at_least_one, share
from pipeline.nn import cells
from pipeline.nn.cells import Cell, Implementation, Recurrent, RecurrentState
from pipeline.nn.dropout import Dropout
from pipeline.nn.embedding import source_and_target_tables


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`model:` of a run. A linear bridge projects the two directions of a bidirectional encoder to
    `hidden`."""

    cell: Cell
    embedding: int
    hidden: int
    layers: int
    dropout: float
    bidirectional: bool
    implementation: Implementation

    def __post_init__(self) -> None:
        at_least_one(embedding=self.embedding, hidden=self.hidden, layers=self.layers)
        share(dropout=self.dropout)
        cells.check(self.cell, self.implementation)


class State(NamedTuple):
    """Recurrent state LBH of the decoder, and the context, which no step changes."""

    cells: RecurrentState
    context_BC: Tensor


class Model(nn.Module):
    """p(target | source) with the source in a single vector."""

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__()
        c = config
        self.source, self.target = source_and_target_tables(sizes, c.embedding)
        self.encoder = Recurrent(
            c.cell,
            c.embedding,
            c.hidden,
            c.layers,
            c.dropout,
            c.implementation,
            bidirectional=c.bidirectional,
        )
        self.bridges: nn.ModuleList | None = None
        if c.bidirectional:
            # One bridge for each tensor of a state.
            state_tensors = 2 if c.cell == "lstm" else 1
            self.bridges = nn.ModuleList(
                nn.Linear(2 * c.hidden, c.hidden) for _ in range(state_tensors)
            )

        # The decoder's input is the token's embedding and the context; so is the readout's, with
        # the hidden state.
        self.decoder = Recurrent(
            c.cell, c.embedding + c.hidden, c.hidden, c.layers, c.dropout, c.implementation
        )
        self.readout = nn.Linear(c.hidden + c.hidden + c.embedding, c.hidden)
        self.dropout = Dropout(c.dropout)
        self.output = nn.Linear(c.hidden, sizes.target)

    def encode(self, prompt: Prompt) -> State:
        """Encode the source; the context is the top layer's final hidden state: c = h_S (d2l
        equation 10.7.2)."""
        x_BSE = self.dropout(self.source(prompt.ids_BS))
        _, state = self.encoder.forward_padded(x_BSE, prompt.length_B)
        if self.bridges is not None:
            state = tuple(
                torch.tanh(bridge(part)) for bridge, part in zip(self.bridges, state, strict=True)
            )
        return State(state, state[0][-1])

    def decode(self, target_BT: Tensor, state: State) -> tuple[Tensor, State]:
        """Run the decoder over target_BT: hidden_BTH, and the state after."""
        # s_t = g(y_{t-1}, c, s_{t-1}) (d2l equation 10.7.3), for all steps at once.
        x_BTE = self.dropout(self.target(target_BT))
        context_BTC = state.context_BC[:, None, :].expand(-1, target_BT.shape[1], -1)
        hidden_BTH, cells = self.decoder(torch.cat([x_BTE, context_BTC], -1), state.cells)

        # Readout of hidden state, context and input; tanh in place of the paper's maxout (Cho et
        # al. 2014, appendix A.1.2).
        readout_BTH = torch.tanh(self.readout(torch.cat([hidden_BTH, context_BTC, x_BTE], -1)))
        return self.dropout(readout_BTH), State(cells, state.context_BC)

    def hidden(self, prompt: Prompt, target_BT: Tensor) -> Tensor:
        return self.decode(target_BT, self.encode(prompt))[0]

    def project(self, hidden_NH: Tensor) -> Tensor:
        logits_NV: Tensor = self.output(hidden_NH)
        return logits_NV

    def begin(self, prompt: Prompt) -> tuple[State, Tensor]:
        return self.encode(prompt), torch.full_like(prompt.length_B, BOS)

    def step(self, state: State, last_B: Tensor) -> tuple[Tensor, State]:
        hidden_B1H, after = self.decode(last_B[:, None], state)
        return self.project(hidden_B1H.squeeze(1)).float().log_softmax(-1), after

    def reorder(self, state: State, rows_B: Tensor) -> State:
        # Recurrent states are LBH, the context BC.
        cells = tuple(part.index_select(1, rows_B) for part in state.cells)
        return State(cells, state.context_BC.index_select(0, rows_B))
