"""Bidirectional recurrent classifier: the final states of both directions, then a linear layer (d2l
section 16.2).

Shapes: B batch, S positions, E embedding, H hidden of one direction, C classes.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from pipeline.contracts import Prompt, Sizes
from pipeline.core.errors import at_least_one, share
from pipeline.nn import cells, embedding
from pipeline.nn.cells import Cell, Implementation, Recurrent
from pipeline.nn.dropout import Dropout

# word2vec's `dimension` must equal this family's `embedding`.
INIT_FROM = {"word2vec": {"dimension": "embedding"}}


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`model:` of a run. `hidden`: width of one direction."""

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
    """p(label | text)."""

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__()
        c = config
        self.embedding = embedding.random_table(sizes.source, c.embedding)
        self.cells = Recurrent(
            c.cell, c.embedding, c.hidden, c.layers, c.dropout, c.implementation, bidirectional=True
        )
        self.dropout = Dropout(c.dropout)
        self.output = nn.Linear(2 * c.hidden, sizes.target)

    def classify(self, text: Prompt) -> Tensor:
        """logits_BC."""
        x_BSE = self.dropout(self.embedding(text.ids_BS))
        _, state = self.cells.forward_padded(x_BSE, text.length_B)

        # The top layer has read the whole text at the last word forwards and at the first word
        # backwards. The book joins the outputs at both ends instead.
        final_B2H = state[0][-1]
        logits_BC: Tensor = self.output(self.dropout(final_B2H))
        return logits_BC

    def load_pretrained(self, tensors: dict[str, Tensor]) -> None:
        """Load word vectors into the embedding; all other weights stay random."""
        embedding.load_pretrained(self.embedding, tensors)
