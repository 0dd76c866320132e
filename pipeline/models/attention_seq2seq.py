"""Encoder-decoder with attention: every step attends to the whole source (Bahdanau et al. 2015; d2l
section 11.4).

The query is the decoder's top hidden state before the step. Its context vector is fed to the cells
together with the last token.

Shapes: B batch, S source, T target, E embedding, H hidden, C context (width of an encoder output),
V vocabulary, N positions, L layers."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pipeline.contracts import BOS, Prompt, Sizes
from pipeline.core.errors import at_least_one, refuse, share
from pipeline.nn import cells
from pipeline.nn.attention_scores import Score, masked_softmax, scoring
from pipeline.nn.cells import Cell, Implementation, Recurrent, RecurrentState
from pipeline.nn.dropout import Dropout
from pipeline.nn.embedding import source_and_target_tables
from pipeline.nn.masks import real_BS


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`model:` of a run. `score`: the scoring function of attention (d2l section 11.3)."""

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
        cells.check(self.cell, self.implementation)
        if self.score == "dot" and self.bidirectional:
            raise refuse(
                "score",
                "dot with bidirectional",
                "keys as wide as the query",
                "Use general, or bidirectional: false.",
            )


class Memory(NamedTuple):
    """Encoded source: the encoder's outputs (values), their projected keys, and the padding
    mask."""

    outputs_BSC: Tensor
    keys_BSH: Tensor
    real_BS: Tensor


class State(NamedTuple):
    """Recurrent state LBH of the decoder, and the memory, which no step changes."""

    cells: RecurrentState
    memory: Memory


class Model(nn.Module):
    """p(target | source) with attention to the source at every step."""

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
        context = 2 * c.hidden if c.bidirectional else c.hidden
        # One bridge from encoder to decoder for each tensor of a state.
        state_tensors = 2 if c.cell == "lstm" else 1
        self.bridges = nn.ModuleList(nn.Linear(context, c.hidden) for _ in range(state_tensors))

        # The decoder's input is the token's embedding and the context; so is the readout's, with
        # the hidden state.
        self.score = scoring(c.score, c.hidden, context, c.hidden)
        self.decoder = Recurrent(
            c.cell, c.embedding + context, c.hidden, c.layers, c.dropout, c.implementation
        )
        self.readout = nn.Linear(c.hidden + context + c.embedding, c.hidden)
        self.dropout = Dropout(c.dropout)
        self.output = nn.Linear(c.hidden, sizes.target)

    def encode(self, prompt: Prompt) -> State:
        """Encode the source; its final state initialises the decoder through the bridges."""
        x_BSE = self.dropout(self.source(prompt.ids_BS))
        outputs_BSC, final = self.encoder.forward_padded(x_BSE, prompt.length_B)

        # Initial decoder state: tanh(W h), as in Bahdanau et al. 2015, appendix A.2.2.
        cells = tuple(
            torch.tanh(bridge(part)) for bridge, part in zip(self.bridges, final, strict=True)
        )

        # Values are the outputs themselves; keys are projected once for all steps.
        keys_BSH = self.score.project_keys(outputs_BSC)
        mask_BS = real_BS(prompt.length_B, prompt.ids_BS.shape[1])
        return State(cells, Memory(outputs_BSC, keys_BSH, mask_BS))

    def attend(self, cells: RecurrentState, memory: Memory) -> tuple[Tensor, Tensor]:
        """Attend with the top hidden state as query: context_B1C and weights_B1S (d2l equation
        11.4.1)."""
        query_B1H = cells[0][-1][:, None, :]
        # c_t = sum over s of softmax(score(s_{t-1}, h_s)) h_s
        scores_B1S = self.score(query_B1H, memory.keys_BSH)
        weights_B1S = masked_softmax(scores_B1S, memory.real_BS[:, None, :])
        return weights_B1S @ memory.outputs_BSC, weights_B1S

    def decode(self, target_BT: Tensor, state: State) -> tuple[Tensor, State, Tensor]:
        """Run the decoder over target_BT step by step: hidden_BTH, the state after, and attention
        weights_BTS."""
        x_BTE = self.dropout(self.target(target_BT))
        cells, memory = state

        hidden = []
        contexts = []
        weights = []
        for x_B1E in x_BTE.split(1, dim=1):
            # s_t = g(y_{t-1}, c_t, s_{t-1}), with the context c_t of state s_{t-1}.
            context_B1C, weights_B1S = self.attend(cells, memory)
            hidden_B1H, cells = self.decoder(torch.cat([x_B1E, context_B1C], -1), cells)
            hidden.append(hidden_B1H)
            contexts.append(context_B1C)
            weights.append(weights_B1S)

        # Readout of hidden state, context and input; tanh in place of the paper's maxout (Bahdanau
        # et al. 2015, appendix A.2.2).
        features_BTF = torch.cat([torch.cat(hidden, 1), torch.cat(contexts, 1), x_BTE], -1)
        readout_BTH = self.dropout(torch.tanh(self.readout(features_BTF)))
        return readout_BTH, State(cells, memory), torch.cat(weights, 1)

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
        log_probs_BV = self.project(hidden_B1H.squeeze(1)).float().log_softmax(-1)
        return log_probs_BV, after, weights_B1S.squeeze(1)

    def reorder(self, state: State, rows_B: Tensor) -> State:
        # Recurrent states are LBH; the batch is dimension 0 of the memory's tensors.
        cells = tuple(part.index_select(1, rows_B) for part in state.cells)
        return State(cells, Memory(*(part.index_select(0, rows_B) for part in state.memory)))
