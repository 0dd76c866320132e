"""The table of a model's word vectors: drawn at random, or taken over from a run of word2vec (d2l section 16.2.2).

Shapes: V vocabulary, E embedding.
"""

from torch import Tensor, nn

from pipeline.errors import refuse


def drawn(words: int, width: int) -> nn.Embedding:
    """A table whose numbers come from N(0, 0.1^2)."""
    table = nn.Embedding(words, width)
    nn.init.normal_(table.weight, std=0.1)
    return table


def adopt(table: nn.Embedding, tensors: dict[str, Tensor]) -> None:
    """Begin with word2vec's `input.weight` (VE), which training then changes; UserError if it has another width."""
    given = tensors["input.weight"]
    if given.shape != table.weight.shape:
        got = f"{table.embedding_dim} with a start whose vectors have {given.shape[1]}"
        raise refuse(
            "model.embedding", got, str(given.shape[1]), "Set it, or the dimension of the run that this one begins from."
        )
    table.weight.data.copy_(given)
