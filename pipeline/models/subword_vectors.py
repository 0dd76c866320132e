"""Vectors of words from their letters (fastText; Bojanowski et al. 2017; d2l section 15.6.1): a
word's vector is the sum of the vectors of its n-grams of characters, and of its own. So words that
share a stem share a part of their vectors, and a word outside the vocabulary has a vector too.

Trained as word2vec is. Shapes: V vocabulary, U distinct words, N n-grams, D dimension."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.contracts import Sizes
from pipeline.core.errors import at_least_one, refuse

# FNV-1a, 32 bits (Fowler, Noll and Vo 1991), by which the authors' program hashes n-grams, too.
_OFFSET = 2166136261
_PRIME = 16777619


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`model:` of a run.

    - `dimension`: length of a vector.
    - `shortest`, `longest`: characters of an n-gram, 3 and 6 in the paper; the marks of a word's
      beginning and end count.
    - `buckets`: the vectors that all n-grams share by their hash, 2 million in the paper.
    """

    dimension: int
    shortest: int
    longest: int
    buckets: int

    def __post_init__(self) -> None:
        at_least_one(dimension=self.dimension, shortest=self.shortest, buckets=self.buckets)
        if self.longest < self.shortest:
            raise refuse("longest", self.longest, f"at least shortest, {self.shortest}")


class Model(nn.Module):
    """The first V rows of `pieces` are of whole words, the others of the buckets. `pieces_N` has
    the rows of all words, end to end, and `start_V` where each word's begin."""

    output: nn.Embedding
    pieces_N: Tensor
    start_V: Tensor

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__()
        self.config = config
        self.words = sizes.source
        # Sparse gradients: a batch uses few rows of the tables.
        self.pieces = nn.Embedding(sizes.source + config.buckets, config.dimension, sparse=True)
        self.output = nn.Embedding(sizes.target, config.dimension, sparse=True)
        nn.init.uniform_(self.pieces.weight, -0.5 / config.dimension, 0.5 / config.dimension)
        nn.init.zeros_(self.output.weight)
        # `read_words` sets the sizes.
        self.register_buffer("pieces_N", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("start_V", torch.zeros(0, dtype=torch.int64))

    def read_words(self, words: Sequence[str]) -> None:
        """Note the n-grams of the words of the vocabulary, in order of their ids."""
        pieces = [[number, *self._buckets(word)] for number, word in enumerate(words)]
        self.pieces_N = torch.tensor([row for rows in pieces for row in rows])
        self.start_V = torch.tensor([0, *accumulate(map(len, pieces))])

    def input(self, ids: Tensor) -> Tensor:
        """Input vectors of the ids, in one more dimension D."""
        word_U, place = torch.unique(ids, return_inverse=True)
        length_U = self.start_V[word_U + 1] - self.start_V[word_U]
        first_U = length_U.cumsum(0) - length_U
        offset_N = torch.repeat_interleave(self.start_V[word_U] - first_U, length_U)
        piece_N = self.pieces_N[offset_N + torch.arange(len(offset_N), device=ids.device)]
        return self._sums(piece_N, first_U)[place]

    def vectors(self) -> Tensor:
        """vectors_VD of the words of the vocabulary."""
        with torch.no_grad():
            return self._sums(self.pieces_N, self.start_V[:-1])

    def spell(self, words: Sequence[str]) -> Tensor:
        """vectors_UD of any words, of their n-grams alone; zero for a word without n-grams."""
        buckets = [self._buckets(word) for word in words]
        device = self.pieces.weight.device
        piece_N = torch.tensor([row for rows in buckets for row in rows], dtype=torch.int64)
        first_U = torch.tensor([0, *accumulate(map(len, buckets))][:-1], dtype=torch.int64)
        with torch.no_grad():
            return self._sums(piece_N.to(device), first_U.to(device))

    def _sums(self, piece_N: Tensor, first_U: Tensor) -> Tensor:
        return F.embedding_bag(piece_N, self.pieces.weight, first_U, mode="sum", sparse=True)

    def _buckets(self, word: str) -> list[int]:
        """Rows of the n-grams of a word."""
        config = self.config
        grams = ngrams(word, config.shortest, config.longest)
        return [self.words + fnv_hash(gram) % config.buckets for gram in grams]


def ngrams(word: str, shortest: int, longest: int) -> list[str]:
    """The n-grams of a word between `<` and `>`, but for the whole word (section 3.2)."""
    marked = f"<{word}>"
    return [
        marked[start : start + length]
        for length in range(shortest, min(longest, len(marked) - 1) + 1)
        for start in range(len(marked) - length + 1)
    ]


def fnv_hash(text: str) -> int:
    """32-bit FNV-1a hash of a text's UTF-8."""
    value = _OFFSET
    for byte in text.encode():
        value = (value ^ byte) * _PRIME & 0xFFFFFFFF
    return value
