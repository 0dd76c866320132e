"""A bag of embeddings: their mean through a perceptron (Iyyer et al. 2015, "deep averaging
network"). Order is lost.

Shapes: B batch, S positions, E embedding, H hidden, C classes.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from pipeline.contracts import Prompt, Sizes
from pipeline.core.errors import at_least_one, share
from pipeline.nn import embedding
from pipeline.nn.dropout import Dropout
from pipeline.nn.pooling import mean_BH

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
    """p(label | which words, and how often)."""

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__()
        self.embedding = embedding.random_table(sizes.source, config.embedding)
        blocks: list[nn.Module] = []
        for layer in range(config.layers):
            inputs = config.hidden if layer else config.embedding
            blocks += [Dropout(config.dropout), nn.Linear(inputs, config.hidden), nn.ReLU()]
        self.layers = nn.Sequential(*blocks, Dropout(config.dropout))
        self.output = nn.Linear(config.hidden, sizes.target)

    def classify(self, text: Prompt) -> Tensor:
        """logits_BC."""
        hidden_BH = self.layers(mean_BH(self.embedding(text.ids_BS), text.length_B))
        logits_BC: Tensor = self.output(hidden_BH)
        return logits_BC

    def load_pretrained(self, tensors: dict[str, Tensor]) -> None:
        """The words' vectors; the rest is this run's own."""
        embedding.load_pretrained(self.embedding, tensors)
