"""The table of a model's word vectors: drawn at random, or taken over from a run of word2vec (d2l
section 16.2.2).

Shapes: V vocabulary, E embedding.
"""

import torch
from torch import Tensor, nn


def random_table(words: int, width: int) -> nn.Embedding:
    """A table whose numbers come from N(0, 0.1^2)."""
    table = nn.Embedding(words, width)
    nn.init.normal_(table.weight, std=0.1)
    return table


def load_pretrained(table: nn.Embedding, tensors: dict[str, Tensor]) -> None:
    """Begin with word2vec's `input.weight` (VE), which training then changes.

    A word that word2vec never met, whose row of its `output.weight` is zero as at the start, keeps
    the vector that was drawn for it, spread as the others are (Kim 2014, section 4.3)."""
    given = tensors["input.weight"]
    met_V = tensors["output.weight"].any(1)
    spread = given[met_V].std() / table.weight.std()
    table.weight.data.copy_(torch.where(met_V[:, None], given, table.weight * spread))
