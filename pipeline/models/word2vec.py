"""word2vec's two tables of vectors (Mikolov et al. 2013b; d2l section 15.1): input vectors of
the words that are read, output vectors of the words that are predicted."""

from dataclasses import dataclass

from torch import nn

from pipeline.contracts import Sizes
from pipeline.core.errors import refuse


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`model:` of a run. `dimension`: length of a vector."""

    dimension: int

    def __post_init__(self) -> None:
        if self.dimension < 1:
            raise refuse("dimension", self.dimension, "at least 1")


class Model(nn.Module):
    """`input` holds v and `output` holds v' of Mikolov et al. 2013b, equation 4. The vectors v are
    the result of the training."""

    input: nn.Embedding
    output: nn.Embedding

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__()
        # Sparse gradients: a batch uses few rows of the tables.
        self.input = nn.Embedding(sizes.source, config.dimension, sparse=True)
        self.output = nn.Embedding(sizes.target, config.dimension, sparse=True)
        # Initial values of the authors' program: small and uniform, and zeros.
        nn.init.uniform_(self.input.weight, -0.5 / config.dimension, 0.5 / config.dimension)
        nn.init.zeros_(self.output.weight)
