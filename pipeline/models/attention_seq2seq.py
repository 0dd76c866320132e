"""Encoder-decoder with attention: every step looks at the whole source (Bahdanau et al. 2015; d2l
section 11.4).

The query is the decoder's top hidden state before the step; the context it finds is fed to the
cells with the last token. Shapes: B batch, S source, T target, E embedding, H hidden, C context
(one encoder output), V vocabulary, N positions."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pipeline.contracts import BOS, Prompt, Sizes
from pipeline.core.errors import at_least_one, refuse, share
from pipeline.nn.attention import Score, masked_softmax, scoring
from pipeline.nn.cells import Cell, Implementation, Recurrent, RecurrentState
from pipeline.nn.dropout import Dropout
from pipeline.nn.masks import real_BS


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`model:` of a run. `score` is how a query and a key are matched."""

    cell: Cell
    score: Score
    embedding: int
    hidden: int
    layers: int
    dropout: float
    bidirectional: bool
    implementation: Implementation

    def __post_init__(self) -> None:
        at_least_one(embedding=self.embedding, hidden=self.hidden, layers=self.layers)
        share(dropout=self.dropout)
        if self.score == "dot" and self.bidirectional:
            raise refuse(
                "score",
                "dot with bidirectional",
                "keys as wide as the query",
                "Use general, or bidirectional: false.",
            )


class Memory(NamedTuple):
    """The source as read: encoder outputs, what scoring needs of them, and which are real."""

    outputs_BSC: Tensor
    keys_BSH: Tensor
    real_BS: Tensor


class State(NamedTuple):
    """The decoder's recurrent state, and the memory, which stays."""

    cells: RecurrentState
    memory: Memory


class Model(nn.Module):
    """p(target | source), the source being looked up at every step."""

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__()
        c = config
        self.source = nn.Embedding(sizes.source, c.embedding)
        self.target = nn.Embedding(sizes.target, c.embedding)
        for table in (self.source, self.target):
            nn.init.normal_(table.weight, std=0.1)
        self.encoder = Recurrent(
            c.cell,
            c.embedding,
            c.hidden,
            c.layers,
            c.dropout,
            c.implementation,
            bidirectional=c.bidirectional,
        )
        read = 2 * c.hidden if c.bidirectional else c.hidden
        parts = 2 if c.cell == "lstm" else 1
        self.bridges = nn.ModuleList(nn.Linear(read, c.hidden) for _ in range(parts))
        self.score = scoring(c.score, c.hidden, read, c.hidden)
        self.decoder = Recurrent(
            c.cell, c.embedding + read, c.hidden, c.layers, c.dropout, c.implementation
        )
        self.readout = nn.Linear(c.hidden + read + c.embedding, c.hidden)
        self.dropout = Dropout(c.dropout)
        self.output = nn.Linear(c.hidden, sizes.target)

    def encode(self, prompt: Prompt) -> State:
        """Read the source; its final state, bridged, starts the decoder."""
        outputs_BSC, final = self.encoder.forward_padded(
            self.dropout(self.source(prompt.ids_BS)), prompt.length_B
        )
        cells = tuple(
            torch.tanh(bridge(part)) for bridge, part in zip(self.bridges, final, strict=True)
        )
        keys_BSH = self.score.project_keys(outputs_BSC)
        return State(
            cells, Memory(outputs_BSC, keys_BSH, real_BS(prompt.length_B, prompt.ids_BS.shape[1]))
        )

    def attend(self, cells: RecurrentState, memory: Memory) -> tuple[Tensor, Tensor]:
        """context_B1C found by the top hidden state, and the weights_B1S it gave (d2l equation
        11.4.1)."""
        scores_B1S = self.score(cells[0][-1][:, None, :], memory.keys_BSH)
        weights_B1S = masked_softmax(scores_B1S, memory.real_BS[:, None, :])
        return weights_B1S @ memory.outputs_BSC, weights_B1S

    def decode(self, target_BT: Tensor, state: State) -> tuple[Tensor, State, Tensor]:
        """The decoder over target_BT, step by step: hidden_BTH, the state after, and
        weights_BTS."""
        x_BTE = self.dropout(self.target(target_BT))
        cells, memory = state
        hidden, contexts, weights = [], [], []
        for x_B1E in x_BTE.split(1, dim=1):
            context_B1C, weights_B1S = self.attend(cells, memory)
            hidden_B1H, cells = self.decoder(torch.cat([x_B1E, context_B1C], -1), cells)
            hidden.append(hidden_B1H)
            contexts.append(context_B1C)
            weights.append(weights_B1S)
        seen_BT = torch.cat([torch.cat(hidden, 1), torch.cat(contexts, 1), x_BTE], -1)
        read_BTH = self.dropout(torch.tanh(self.readout(seen_BT)))
        return read_BTH, State(cells, memory), torch.cat(weights, 1)

    def hidden(self, prompt: Prompt, target_BT: Tensor) -> Tensor:
        return self.decode(target_BT, self.encode(prompt))[0]

    def project(self, hidden_NH: Tensor) -> Tensor:
        logits_NV: Tensor = self.output(hidden_NH)
        return logits_NV

    def attention(self, prompt: Prompt, target_BT: Tensor) -> dict[str, Tensor]:
        return {"attention": self.decode(target_BT, self.encode(prompt))[2]}

    def begin(self, prompt: Prompt) -> tuple[State, Tensor]:
        return self.encode(prompt), torch.full_like(prompt.length_B, BOS)

    def step(self, state: State, last_B: Tensor) -> tuple[Tensor, State]:
        log_probs_BV, after, _ = self.step_with_attention(state, last_B)
        return log_probs_BV, after

    def step_with_attention(self, state: State, last_B: Tensor) -> tuple[Tensor, State, Tensor]:
        hidden_B1H, after, weights_B1S = self.decode(last_B[:, None], state)
        return (
            self.project(hidden_B1H.squeeze(1)).float().log_softmax(-1),
            after,
            weights_B1S.squeeze(1),
        )

    def reorder(self, state: State, rows_B: Tensor) -> State:
        cells = tuple(part.index_select(1, rows_B) for part in state.cells)
        return State(cells, Memory(*(part.index_select(0, rows_B) for part in state.memory)))
