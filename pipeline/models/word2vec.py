"""word2vec's two tables of vectors (Mikolov et al. 2013b; d2l 15.1): a word as it is read, and as
it is predicted."""

from dataclasses import dataclass

from torch import nn

from pipeline.contracts import Sizes
from pipeline.core.errors import refuse


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`model:` of a run: the length of a vector."""

    dimension: int

    def __post_init__(self) -> None:
        if self.dimension < 1:
            raise refuse("dimension", self.dimension, "at least 1")


class Model(nn.Module):
    """`input` holds v and `output` holds v' of equation 4; `input` is what is kept as the words'
    vectors.

    A batch touches few rows, so gradients are sparse. Values at the start are those of the authors'
    own program: small and uniform, and zeros."""

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__()
        self.input = nn.Embedding(sizes.source, config.dimension, sparse=True)
        self.output = nn.Embedding(sizes.target, config.dimension, sparse=True)
        nn.init.uniform_(self.input.weight, -0.5 / config.dimension, 0.5 / config.dimension)
        nn.init.zeros_(self.output.weight)
