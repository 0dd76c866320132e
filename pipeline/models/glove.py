"""GloVe: vectors whose products are the logarithms of how often words occur together (Pennington,
Socher and Manning 2014; d2l section 15.5). It is trained by the objective `glove`.

Shapes: V vocabulary, D dimension."""

from dataclasses import dataclass

from torch import Tensor, nn

from pipeline.contracts import Sizes
from pipeline.core.errors import at_least_one


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`model:` of a run. `dimension`: length of a vector."""

    dimension: int

    def __post_init__(self) -> None:
        at_least_one(dimension=self.dimension)


class Model(nn.Module):
    """Vectors w and w~ of words and of contexts, with a bias each (equation 7). Sparse gradients: a
    batch uses few rows of the tables."""

    input: nn.Embedding
    output: nn.Embedding
    input_bias: nn.Embedding
    output_bias: nn.Embedding

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__()
        self.input = nn.Embedding(sizes.source, config.dimension, sparse=True)
        self.output = nn.Embedding(sizes.target, config.dimension, sparse=True)
        self.input_bias = nn.Embedding(sizes.source, 1, sparse=True)
        self.output_bias = nn.Embedding(sizes.target, 1, sparse=True)
        # Initial values of the authors' program.
        for table in (self.input, self.output, self.input_bias, self.output_bias):
            nn.init.uniform_(table.weight, -0.5 / config.dimension, 0.5 / config.dimension)

    def vectors(self) -> Tensor:
        """vectors_VD: the sums of both tables, which are alike but for their initial values
        (section 4.2)."""
        return self.input.weight.detach() + self.output.weight.detach()
