"""Embedding table of a classifier: random, or pretrained by a run of word2vec (d2l section 16.2.2).

Shapes: V vocabulary, E embedding.
"""

import torch
from torch import Tensor, nn

from pipeline.contracts import Sizes


def random_table(words: int, width: int) -> nn.Embedding:
    """Embedding table VE drawn from N(0, 0.1^2)."""
    table = nn.Embedding(words, width)
    nn.init.normal_(table.weight, std=0.1)
    return table


def source_and_target_tables(sizes: Sizes, width: int) -> tuple[nn.Embedding, nn.Embedding]:
    """Tables of (source, width) and (target, width), drawn from N(0, 0.1^2)."""
    tables = nn.Embedding(sizes.source, width), nn.Embedding(sizes.target, width)
    for table in tables:
        nn.init.normal_(table.weight, std=0.1)
    return tables


def load_pretrained(table: nn.Embedding, tensors: dict[str, Tensor]) -> None:
    """Copy word2vec's `input.weight` (VE) into the table; training then fine-tunes it.

    Words that word2vec was not trained on keep their random vectors, scaled to the standard
    deviation of the pretrained ones (Kim 2014, section 4.3)."""
    pretrained_VE = tensors["input.weight"]
    # word2vec's output vectors start at zero, and training changes those of the words it reads.
    is_trained_V = tensors["output.weight"].any(1)
    scale = pretrained_VE[is_trained_V].std() / table.weight.std()
    table.weight.data.copy_(torch.where(is_trained_V[:, None], pretrained_VE, table.weight * scale))
