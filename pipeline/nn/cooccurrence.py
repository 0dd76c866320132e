"""Co-occurrences of words, and the weighted least squares of GloVe (Pennington, Socher and Manning
2014; d2l section 15.5).

Shapes: N words of a text, P pairs of words that occur together, B pairs of a batch, D dimension."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pipeline.contracts import GloveVectors, Loss


class Pairs(NamedTuple):
    """Words that occur together: ids, and how often, in order of the ids. Both orders of a pair are
    in it."""

    word_P: NDArray[np.int64]
    context_P: NDArray[np.int64]
    count_P: NDArray[np.float64]


class PairBatch(NamedTuple):
    """Pairs as tensors."""

    word_B: Tensor
    context_B: Tensor
    count_B: Tensor


def count_pairs(ids_N: NDArray[np.int32], row_N: NDArray[np.int32], window: int) -> Pairs:
    """Count words at most `window` words apart in a row; a pair at distance d counts as 1 / d
    (section 4.2)."""
    # Takes half a second to import, and only this objective needs it.
    from scipy import sparse

    words = int(ids_N.max(initial=-1)) + 1
    counts_VV = sparse.csr_matrix((words, words))
    for distance in range(1, window + 1):
        is_pair = row_N[distance:] == row_N[:-distance]
        before_P = ids_N[:-distance][is_pair]
        behind_P = ids_N[distance:][is_pair]
        share_P = np.full(len(before_P), 1 / distance)
        counts_VV += sparse.csr_matrix((share_P, (before_P, behind_P)), (words, words))

    pairs = (counts_VV + counts_VV.T).tocsr().tocoo()
    return Pairs(pairs.row.astype(np.int64), pairs.col.astype(np.int64), pairs.data)


def glove_loss(model: GloveVectors, pairs: PairBatch, most: float, power: float) -> Loss:
    """Sum of f(X) (w · w~ + b + b~ - log X)^2 (equation 8); f(X) = min(X / most, 1) ** power
    (equation 9)."""
    product_B = (model.input(pairs.word_B) * model.output(pairs.context_B)).sum(-1)
    bias_B = model.input_bias(pairs.word_B)[:, 0] + model.output_bias(pairs.context_B)[:, 0]
    weight_B = (pairs.count_B / most).clamp(max=1.0) ** power
    squares_B = (product_B + bias_B - pairs.count_B.log()) ** 2
    return Loss((weight_B * squares_B).sum(), len(pairs.count_B))
