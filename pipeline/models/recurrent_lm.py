"""Recurrent language models (d2l chapters 9 and 10): embedding, recurrent cells, output layer.

Shapes: B batch, T time, E embedding, H hidden, V vocabulary, N positions, L layers.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.contracts import Prompt, Sizes
from pipeline.core.errors import at_least_one, refuse, share
from pipeline.nn import cells
from pipeline.nn.cells import Cell, Implementation, Recurrent, RecurrentState
from pipeline.nn.dropout import Dropout


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`model:` of a run.

    `embedding`: 0 means one-hot inputs, as in the book (d2l section 9.5.2). `tied`: output layer
    and embedding share their weights (Press & Wolf 2017)."""

    cell: Cell
    embedding: int
    hidden: int
    layers: int
    dropout: float
    tied: bool
    implementation: Implementation

    def __post_init__(self) -> None:
        at_least_one(hidden=self.hidden, layers=self.layers)
        share(dropout=self.dropout)
        cells.check(self.cell, self.implementation)
        if self.tied and self.embedding != self.hidden:
            raise refuse(
                "tied",
                f"true with embedding {self.embedding} and hidden {self.hidden}",
                "both equal, or tied false",
            )


class Model(nn.Module):
    """p(next token | all tokens before), which the recurrent state summarises."""

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__()
        self.vocabulary = sizes.target
        self.one_hot = config.embedding == 0
        if not self.one_hot:
            self.embedding = nn.Embedding(sizes.target, config.embedding)
            # Small if tied: as output weights, numbers of variance 1 would give large logits.
            nn.init.normal_(self.embedding.weight, std=0.1 if config.tied else 1.0)
        inputs = config.embedding or sizes.target
        self.cells = Recurrent(
            config.cell, inputs, config.hidden, config.layers, config.dropout, config.implementation
        )
        self.dropout = Dropout(config.dropout)
        self.output = nn.Linear(config.hidden, sizes.target)

        if config.tied:
            self.output.weight = self.embedding.weight

    def hidden(self, ids_BT: Tensor, state: RecurrentState | None) -> tuple[Tensor, RecurrentState]:
        """hidden_BTH after each id, and the state after the last; `state` None is a zero state."""
        # In memory time comes first, as in torch's kernels, which would copy otherwise.
        ids_TB = ids_BT.T.contiguous()
        if self.one_hot:
            # Ones in floats: `F.one_hot` writes integers of twice the size, and reads them again.
            zero_TBE = self.output.weight.new_zeros((*ids_TB.shape, self.vocabulary))
            x_TBE = zero_TBE.scatter_(2, ids_TB[..., None], 1.0)
        else:
            x_TBE = self.embedding(ids_TB)
        x_BTE = x_TBE.transpose(0, 1)
        # Dropout on the non-recurrent connections only (Zaremba et al. 2014).
        hidden_BTH, after = self.cells(self.dropout(x_BTE), state)
        return self.dropout(hidden_BTH), after

    def project(self, hidden_NH: Tensor) -> Tensor:
        logits_NV: Tensor = self.output(hidden_NH)
        return logits_NV

    def begin(self, prompt: Prompt) -> tuple[RecurrentState, Tensor]:
        """Read each prompt (which begins with EOS, as the stream does) up to its last id, which is
        fed first: the book's warm-up (d2l section 9.5.5)."""
        last_B = prompt.ids_BS.gather(1, prompt.length_B[:, None] - 1).squeeze(1)
        batch = prompt.ids_BS.shape[0]

        # Rows that have ended keep their state, while longer ones are still read.
        state = self.cells.zero_state(batch)
        for t in range(prompt.ids_BS.shape[1] - 1):
            _, after = self.hidden(prompt.ids_BS[:, t : t + 1], state)
            is_read_1B1 = (t < prompt.length_B - 1).view(1, batch, 1)
            state = tuple(
                torch.where(is_read_1B1, new, old) for new, old in zip(after, state, strict=True)
            )
        return state, last_B

    def step(self, state: RecurrentState, last_B: Tensor) -> tuple[Tensor, RecurrentState]:
        # One time step of every row, then the output layer (d2l equation 10.3.2).
        hidden_B1H, after = self.hidden(last_B[:, None], state)
        logits_BV = self.project(hidden_B1H.squeeze(1)).float()
        return logits_BV.log_softmax(-1), after

    def reorder(self, state: RecurrentState, rows_B: Tensor) -> RecurrentState:
        # States are LBH.
        return tuple(part.index_select(1, rows_B) for part in state)
