"""Bag-of-words classifier: the mean embedding through a multilayer perceptron (Iyyer et al. 2015,
"deep averaging network"; d2l chapter 5). Word order is lost.

Shapes: B batch, S positions, E embedding, H hidden, C classes.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from pipeline.contracts import Prompt, Sizes
from pipeline.core.errors import at_least_one, share
from pipeline.nn import embedding
from pipeline.nn.dropout import Dropout
from pipeline.nn.pooling import mean_BH

# word2vec's `dimension` must equal this family's `embedding`.
INIT_FROM = {"word2vec": {"dimension": "embedding"}}


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`model:` of a run."""

    embedding: int
    hidden: int
    layers: int
    dropout: float

    def __post_init__(self) -> None:
        at_least_one(embedding=self.embedding, hidden=self.hidden, layers=self.layers)
        share(dropout=self.dropout)


class Model(nn.Module):
    """p(label | counts of words)."""

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__()
        self.embedding = embedding.random_table(sizes.source, config.embedding)
        # Dropout before each layer; the paper drops whole words instead.
        blocks: list[nn.Module] = []
        for layer in range(config.layers):
            inputs = config.hidden if layer else config.embedding
            blocks += [Dropout(config.dropout), nn.Linear(inputs, config.hidden), nn.ReLU()]
        self.layers = nn.Sequential(*blocks, Dropout(config.dropout))
        self.output = nn.Linear(config.hidden, sizes.target)

    def classify(self, text: Prompt) -> Tensor:
        """logits_BC."""
        # Padding is left out of the mean.
        mean_BE = mean_BH(self.embedding(text.ids_BS), text.length_B)
        hidden_BH = self.layers(mean_BE)
        logits_BC: Tensor = self.output(hidden_BH)
        return logits_BC

    def load_pretrained(self, tensors: dict[str, Tensor]) -> None:
        """Load word vectors into the embedding; all other weights stay random."""
        embedding.load_pretrained(self.embedding, tensors)
