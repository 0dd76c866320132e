"""Tables of the n-grams of a text, as sorted integer keys.

An n-gram's number is its place in the table of its order. Its key is the number of its first n - 1
tokens, in the table of order n - 1, times the vocabulary's size plus its last token. So keys of any
order fit into 64 bits, the n-grams that continue a context lie next to each other, and a text is
looked up with one binary search per order and token.

Shapes: T tokens of a text, G n-grams of an order, C contexts, V vocabulary."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.text.specials import EOS

Ints = NDArray[np.int64]
Counts = NDArray[np.int32]
ABSENT = -1  # number of an n-gram that the table lacks
ROOT = 0  # number of the empty context, the only n-gram of order 0


@dataclass(frozen=True, slots=True)
class Ngrams:
    """The n-grams of a text by order, from 1: `keys[n - 1]` are the sorted keys of order n.

    `across_rows`: False if no n-gram reaches beyond an EOS before its last token; an EOS can then
    only be its first or its last token."""

    vocabulary: int
    across_rows: bool
    keys: Sequence[Ints]

    @property
    def order(self) -> int:
        """The largest order."""
        return len(self.keys)

    @classmethod
    def of(
        cls, ids_T: Ints, order: int, vocabulary: int, across_rows: bool
    ) -> "tuple[Ngrams, list[Ints]]":
        """The n-grams of the stream `ids_T`, up to `order`, and their `numbers`."""
        reach_T = reach(ids_T, across_rows)
        keys_G, number_T = np.unique(ids_T, return_inverse=True)
        keys = [keys_G]
        numbers = [np.full(len(ids_T), ROOT), number_T]
        for n in range(2, order + 1):
            key_T = _keys(numbers[-1], ids_T, reach_T >= n, vocabulary)
            # The smallest key is ABSENT: the stream's first token has no context.
            keys_G, number_T = np.unique(key_T, return_inverse=True)
            keys.append(keys_G[1:])
            numbers.append(number_T - 1)
        return cls(vocabulary, across_rows, keys), numbers

    def numbers(self, ids_T: Ints) -> list[Ints]:
        """For each order n from 0, the number of the n-gram that ends at each token of a stream.

        ABSENT if the table lacks it, or if it would reach beyond the start (of the row)."""
        reach_T = reach(ids_T, self.across_rows)
        numbers = [np.full(len(ids_T), ROOT), find(self.keys[0], ids_T)]
        for n in range(2, self.order + 1):
            key_T = _keys(numbers[-1], ids_T, reach_T >= n, self.vocabulary)
            numbers.append(find(self.keys[n - 1], key_T))
        return numbers

    def context_numbers(self, ids_BC: Ints) -> list[Ints]:
        """For each length m from 0 to order - 1, the number of the last m tokens of each row as a
        context.

        `ids_BC`: the last tokens before the token to predict, padded on the left with PAD, which is
        in no n-gram."""
        width = ids_BC.shape[1]
        contexts = [np.full(len(ids_BC), ROOT)]
        for length in range(1, min(self.order - 1, width) + 1):
            first, *others = ids_BC[:, width - length :].T
            number_B = find(self.keys[0], first)
            for n, token_B in enumerate(others, 2):
                is_valid_B = (number_B != ABSENT) & (self.across_rows | (token_B != EOS))
                key_B = np.where(is_valid_B, number_B * self.vocabulary + token_B, ABSENT)
                number_B = find(self.keys[n - 1], key_B)
            contexts.append(number_B)
        return contexts

    def parents(self, n: int) -> Ints:
        """For each n-gram of order n, the number of its context."""
        return np.zeros_like(self.keys[0]) if n == 1 else self.keys[n - 1] // self.vocabulary

    def context_count(self, n: int) -> int:
        """The number of contexts of the n-grams of order n."""
        return 1 if n == 1 else len(self.keys[n - 2])


def counts(ngrams: Ngrams, numbers: Sequence[Ints]) -> list[Counts]:
    """How often each n-gram predicts the last of its tokens in a stream, by order.

    `numbers`: those of the stream. Its first token is predicted by none."""
    return [
        np.bincount(places[1:][places[1:] != ABSENT], minlength=len(keys)).astype(np.int32)
        for places, keys in zip(numbers[1:], ngrams.keys, strict=True)
    ]


def continuation_counts(ngrams: Ngrams, numbers: Sequence[Ints]) -> list[Counts]:
    """Kneser and Ney's counts by order: of the largest order as in `counts`, of the others the
    number of different tokens before the n-gram (Chen and Goodman 1999).

    An n-gram without a token before it: at the start of the stream, the start counts as a token. At
    the start of a row, beyond which no n-gram reaches, the n-gram begins with the EOS before the
    row and keeps its count (Heafield et al. 2013)."""
    raw = counts(ngrams, numbers)
    adjusted = [raw[-1]]
    for n in range(ngrams.order - 1, 0, -1):
        shorter_T = numbers[n]
        longer_T = numbers[n + 1]

        # Each longer n-gram without its first token is one of this order.
        suffix_G = np.zeros(len(ngrams.keys[n]), np.int64)
        has_longer_T = longer_T != ABSENT
        suffix_G[longer_T[has_longer_T]] = shorter_T[has_longer_T]
        left_G = np.bincount(suffix_G, minlength=len(ngrams.keys[n - 1]))

        # N-grams at a start. The first token of the stream is predicted by none.
        is_start_T = (shorter_T != ABSENT) & ~has_longer_T
        is_start_T[0] = False
        starts = np.unique(shorter_T[is_start_T])
        left_G[starts] = left_G[starts] + 1 if ngrams.across_rows else raw[n - 1][starts]
        adjusted.append(left_G.astype(np.int32))
    return adjusted[::-1]


def reach(ids_T: Ints, across_rows: bool) -> Ints:
    """The largest order of an n-gram that ends at each token of a stream."""
    place_T = np.arange(len(ids_T))
    if across_rows:
        return place_T + 1
    # The last EOS before each token is the first token of its longest n-gram.
    eos_T = np.maximum.accumulate(np.where(ids_T == EOS, place_T, 0))
    first_T = np.concatenate([[0], eos_T[:-1]])
    lengths: Ints = place_T - first_T + 1
    return lengths


def find(keys_G: Ints, key_T: Ints) -> Ints:
    """The place of each key in the sorted keys; ABSENT if they lack it."""
    if not len(keys_G):
        return np.full(len(key_T), ABSENT)
    place_T = np.searchsorted(keys_G, key_T)
    place_T[place_T == len(keys_G)] = 0
    found: Ints = np.where(keys_G[place_T] == key_T, place_T, ABSENT)
    return found


def ranges(bounds_R2: Ints) -> tuple[Ints, Ints]:
    """The row and the place of every entry of R ranges of places, from their first and last
    (exclusive) places."""
    count_R = bounds_R2[:, 1] - bounds_R2[:, 0]
    row_F = np.repeat(np.arange(len(count_R)), count_R)
    before_R = np.cumsum(count_R) - count_R
    place_F = np.arange(len(row_F)) + (bounds_R2[:, 0] - before_R)[row_F]
    return row_F, place_F


def _keys(shorter_T: Ints, ids_T: Ints, is_valid_T: NDArray[Any], vocabulary: int) -> Ints:
    """Keys of the n-grams that end at each token, from the numbers of those of one order less;
    ABSENT where `is_valid_T` is False or the table lacks the context."""
    context_T = np.concatenate([[ABSENT], shorter_T[:-1]])
    has_key_T = is_valid_T & (context_T != ABSENT)
    keys: Ints = np.where(has_key_T, context_T * vocabulary + ids_T, ABSENT)
    return keys
