"""Word vectors from counts: the truncated singular value decomposition of a matrix of positive
pointwise mutual information (Levy, Goldberg and Dagan 2015, sections 2 and 3).

It is fitted by counting and linear algebra, without gradients. It approximates the matrix that
skip-gram with negative sampling factorizes implicitly (Levy and Goldberg 2014).

Shapes: V vocabulary, D dimension, N words of a text, P pairs of a word and a context.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.contracts import Sizes
from pipeline.core.errors import at_least_one, refuse
from pipeline.text.specials import SPECIALS
from pipeline.text.token_budget import Ragged

_LEAST_SINGULAR = 1e-9  # of the largest singular value: smaller ones are 0 but for rounding
_ROWS = 256  # words whose scores with all contexts are computed at a time


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`model:` of a run, by the names of Levy, Goldberg and Dagan 2015, table 1, in brackets.

    - `dimension`: length of a vector [dim].
    - `window`: most words between a word and its context [win].
    - `dynamic`: count a context at distance d as (window - d + 1) / window, as word2vec does on
      average; else as 1 [dyn].
    - `shift`: k of the shift by -log k; of word2vec, the number of negatives [neg].
    - `smoothing`: exponent of the contexts' counts; the paper uses 0.75 [cds].
    - `eigenvalues`: exponent p of the singular values in the words' vectors, 0, 0.5 or 1 in the
      paper [eig]. The contexts' vectors have the exponent 1 - p.
    """

    dimension: int
    window: int
    dynamic: bool
    shift: float
    smoothing: float
    eigenvalues: float

    def __post_init__(self) -> None:
        at_least_one(dimension=self.dimension, window=self.window)
        if self.shift < 1:
            raise refuse("shift", self.shift, "at least 1, such as 5.0; 1.0 shifts nothing")
        for key, value in (("smoothing", self.smoothing), ("eigenvalues", self.eigenvalues)):
            if not 0 <= value <= 1:
                raise refuse(key, value, "from 0 to 1")


class Vectors(nn.Module):
    """A table of vectors, VD."""

    weight: Tensor

    def __init__(self, words: int, dimension: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(words, dimension))

    def forward(self, ids: Tensor) -> Tensor:
        """Vectors of the ids, in one more dimension D."""
        return F.embedding(ids, self.weight)

    def set(self, rows: NDArray[np.float64]) -> None:
        """Set the vectors of all ids but the specials, which stay zero."""
        self.weight.zero_()
        self.weight[len(SPECIALS) :] = torch.from_numpy(rows).to(self.weight)


class Model(nn.Module):
    """`input` holds the words' vectors U S^p, and `output` the contexts' vectors V S^(1-p): their
    products approximate the shifted mutual information."""

    input: Vectors
    output: Vectors

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__()
        self.config = config
        self.words = sizes.source - len(SPECIALS)
        self.input = Vectors(sizes.source, config.dimension)
        self.output = Vectors(sizes.target, config.dimension)

    def fit(self, train: pa.Table, valid: pa.Table, seed: int) -> dict[str, float]:
        """Count the pairs, and decompose their mutual information; `seed` is not used."""
        config = self.config
        if config.dimension >= self.words:
            raise refuse(
                "dimension", config.dimension, f"less than {self.words}, the words of the corpus"
            )
        pairs_VV = pair_counts(train, config.window, config.dynamic, self.words)
        if not pairs_VV.nnz:
            raise refuse(
                "corpus",
                "a training text without two known words in a row",
                "some",
                "Lower vocab.min_count.",
            )

        noise_V = context_probs(pairs_VV, config.smoothing)
        matrix_VV = positive_mutual_information(pairs_VV, noise_V, config.shift)
        if not matrix_VV.nnz:
            problem = f"{config.shift}, which leaves no pair of words positive"
            raise refuse("shift", problem, "a smaller one, such as 1.0")
        left_VD, singular_D, right_VD = _decomposed(matrix_VV, config.dimension)
        self.input.set(left_VD * singular_D**config.eigenvalues)
        self.output.set(right_VD * singular_D ** (1 - config.eigenvalues))
        return {"loss": self._loss(valid, noise_V)}

    def _loss(self, valid: pa.Table, noise_V: NDArray[np.float64]) -> float:
        """Nats of a validation pair in skip-gram with `shift` negatives (Mikolov et al. 2013b,
        equation 4): -log σ(word · context) - k E log σ(-word · noise), the expectation in full."""
        config = self.config
        pairs = pair_counts(valid, config.window, config.dynamic, self.words).tocoo()
        if not pairs.nnz:
            raise refuse(
                "corpus",
                "a validation text without two known words in a row",
                "some",
                "Lower vocab.min_count.",
            )

        word_P = torch.from_numpy(pairs.row.astype(np.int64))
        context_P = torch.from_numpy(pairs.col.astype(np.int64))
        count_P = torch.from_numpy(pairs.data)
        input_VD = self.input.weight[len(SPECIALS) :].cpu()
        output_VD = self.output.weight[len(SPECIALS) :].cpu()

        # Blocks of the words that occur: all their products with contexts at once.
        noise = torch.from_numpy(noise_V)
        total = 0.0
        for word_W in torch.split(torch.unique(word_P), _ROWS):
            products_WV = input_VD[word_W] @ output_VD.T
            negative_W = F.logsigmoid(-products_WV).double() @ noise
            start, end = torch.searchsorted(word_P, word_W[[0, -1]] + torch.tensor([0, 1])).tolist()
            place_P = torch.searchsorted(word_W, word_P[start:end])
            positive_P = F.logsigmoid(products_WV[place_P, context_P[start:end]]).double()
            nats_P = -positive_P - config.shift * negative_W[place_P]
            total += float((nats_P * count_P[start:end]).sum())
        return total / float(count_P.sum())


def pair_counts(table: pa.Table, window: int, dynamic: bool, words: int) -> Any:
    """Counts of words (rows) with their contexts (columns) as a sparse matrix, without specials.

    Special tokens are removed before; no window reaches beyond its row.
    """
    # Takes half a second to import, and only this family needs it.
    from scipy import sparse

    rows = Ragged(table["ids"])
    row_N = np.repeat(np.arange(len(rows.length)), rows.length)
    place_N = np.arange(len(row_N)) - (np.cumsum(rows.length) - rows.length)[row_N]
    ids_N = rows.values[rows.start[row_N] + place_N] - len(SPECIALS)
    is_known_N = ids_N >= 0
    ids_N = ids_N[is_known_N]
    row_N = row_N[is_known_N]

    counts_VV = sparse.csr_matrix((words, words))
    for distance in range(1, window + 1):
        is_pair = row_N[distance:] == row_N[:-distance]
        before_P = ids_N[:-distance][is_pair]
        behind_P = ids_N[distance:][is_pair]
        weight = (window - distance + 1) / window if dynamic else 1.0
        weight_P = np.full(len(before_P), weight)
        counts_VV += sparse.csr_matrix((weight_P, (before_P, behind_P)), (words, words))
    return (counts_VV + counts_VV.T).tocsr()


def context_probs(pairs_VV: Any, smoothing: float) -> NDArray[np.float64]:
    """P(context) in proportion to its count to the power of `smoothing` (section 3.2)."""
    count_V = np.asarray(pairs_VV.sum(0), np.float64).ravel()
    # 0 to the power of 0 is 1, but a word without a context is none.
    weight_V = np.where(count_V > 0, count_V**smoothing, 0.0)
    probs_V: NDArray[np.float64] = weight_V / weight_V.sum()
    return probs_V


def positive_mutual_information(pairs_VV: Any, noise_V: NDArray[np.float64], shift: float) -> Any:
    """max(log P(context | word) / P(context) - log shift, 0), sparse (equations 3 and 5)."""
    matrix = pairs_VV.tocoo()
    count_V = np.asarray(pairs_VV.sum(1), np.float64).ravel()
    conditional_P = matrix.data / count_V[matrix.row]
    information_P = np.log(conditional_P / noise_V[matrix.col]) - np.log(shift)
    matrix.data = np.maximum(information_P, 0.0)
    sparse = matrix.tocsr()
    sparse.eliminate_zeros()
    return sparse


def _decomposed(
    matrix_VV: Any, dimension: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Left singular vectors, the largest singular values in descending order, right singular
    vectors."""
    from scipy.sparse import linalg

    # ARPACK begins from a fixed vector without structure: the result is always the same.
    generator = np.random.default_rng(1)
    start_V = generator.normal(size=matrix_VV.shape[0])
    left_VD, singular_D, right_DV = linalg.svds(matrix_VV, dimension, v0=start_V, rng=generator)

    # A matrix of a lower rank leaves the last vectors open: they become zero.
    is_real_D = singular_D > singular_D.max() * _LEAST_SINGULAR
    order = np.argsort(-singular_D)
    return (
        (left_VD * is_real_D)[:, order],
        (singular_D * is_real_D)[order],
        (right_DV.T * is_real_D)[:, order],
    )
