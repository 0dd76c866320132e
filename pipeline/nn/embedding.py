"""The table of a model's word vectors: drawn at random, or taken over from a run of word2vec (d2l section 16.2.2).

Shapes: V vocabulary, E embedding.
"""

import torch
from torch import Tensor, nn

from pipeline.errors import refuse


def drawn(words: int, width: int) -> nn.Embedding:
    """A table whose numbers come from N(0, 0.1^2)."""
    table = nn.Embedding(words, width)
    nn.init.normal_(table.weight, std=0.1)
    return table


def adopt(table: nn.Embedding, tensors: dict[str, Tensor], key: str = "embedding") -> None:
    """Begin with word2vec's `input.weight` (VE), which training then changes; UserError if its width is not `model.<key>`.

    A word that word2vec never met, whose row of its `output.weight` is zero as at the start, keeps the vector that was drawn
    for it, spread as the others are (Kim 2014, section 4.3).
    """
    given = tensors["input.weight"]
    if given.shape != table.weight.shape:
        got = f"{table.embedding_dim} with a start whose vectors have {given.shape[1]}"
        todo = "Set it, or the dimension of the run that this one begins from."
        raise refuse(f"model.{key}", got, str(given.shape[1]), todo)
    met_V = tensors["output.weight"].any(1)
    spread = given[met_V].std() / table.weight.std()
    table.weight.data.copy_(torch.where(met_V[:, None], given, table.weight * spread))
