"""Evidence of an n-gram model that counts the text while it reads it: each token is predicted from
the counts of the training text and of all tokens of the stream before it.

Such a model is a cache of n-grams (Kuhn and De Mori 1990), and how text is compressed by partial
matching (Cleary and Witten 1984). Nothing is fitted, and no token is counted before it is
predicted. All positions are computed at once: a count before a token is a running sum over the
earlier places of its n-gram.

Shapes: T tokens of a stream, K kinds of counts, N values."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.nn.ngrams import ABSENT, Counts, Ints, Ngrams, reach
from pipeline.nn.smoothing import KINDS, Contexts, Evidence, take


def adaptive_evidence(
    ngrams: Ngrams,
    counts: Sequence[Counts],
    contexts: Sequence[Contexts],
    ids_T: Ints,
    continuation: bool,
) -> list[Evidence]:
    """The evidence of each order for all tokens of a stream but the first.

    `ngrams`, `counts` and `contexts` are those of the training text. `continuation`: the counts are
    Kneser and Ney's (`ngrams.continuation_counts`)."""
    trained = ngrams.numbers(ids_T)
    _, read = Ngrams.of(ids_T, ngrams.order, ngrams.vocabulary, ngrams.across_rows)
    reach_T = reach(ids_T, ngrams.across_rows)

    orders = []
    for n in range(1, ngrams.order + 1):
        # Tokens that add to the count of their n-gram; the first token is predicted by none.
        adds_T = read[n] != ABSENT
        adds_T[0] = False
        if continuation and n < ngrams.order:
            # A token before the n-gram adds once. At a start there is none: the n-gram adds itself.
            is_new_T = (trained[n + 1] == ABSENT) & _is_first(read[n + 1])
            adds_T &= is_new_T | (read[n + 1] == ABSENT)
        count_T = take(counts[n - 1], trained[n]) + _sum_before(read[n], adds_T.astype(np.int64))

        # The context ends one token earlier. All contexts of the stream are known from there on.
        context_T = _shifted(read[n - 1], reach_T >= n)
        total_T = _sum_before(context_T, adds_T.astype(np.int64))
        followers_TK = _sum_before(context_T, _moves(count_T, adds_T))
        base = contexts[n - 1].evidence(_shifted(trained[n - 1], reach_T >= n), count_T)
        is_known_T = context_T != ABSENT
        orders.append(
            Evidence(
                np.where(is_known_T, count_T, 0)[1:],
                (base.total_T + np.where(is_known_T, total_T, 0))[1:],
                (base.followers_TK + np.where(is_known_T[:, None], followers_TK, 0))[1:],
            )
        )
    return orders


def _shifted(number_T: Ints, is_valid_T: NDArray[np.bool_]) -> Ints:
    """The number at the token before each token; ABSENT where it is not valid."""
    before_T = np.concatenate([[ABSENT], number_T[:-1]])
    shifted: Ints = np.where(is_valid_T, before_T, ABSENT)
    return shifted


def _is_first(group_N: Ints) -> NDArray[np.bool_]:
    """Whether each value is the first one of its group."""
    is_first_N = np.zeros(len(group_N), bool)
    is_first_N[np.unique(group_N, return_index=True)[1]] = True
    return is_first_N


def _moves(count_T: Ints, adds_T: NDArray[np.bool_]) -> Ints:
    """How the number of n-grams of each kind of count changes by each token: TK."""
    moves_TK = np.zeros((len(count_T), KINDS), np.int64)
    (place_N,) = adds_T.nonzero()
    before_N = np.minimum(count_T[place_N], KINDS)
    after_N = np.minimum(count_T[place_N] + 1, KINDS)
    moves_TK[place_N, after_N - 1] += 1
    had_N = before_N > 0
    moves_TK[place_N[had_N], before_N[had_N] - 1] -= 1
    return moves_TK


def _sum_before(group_N: Ints, value_N: NDArray[Any]) -> NDArray[Any]:
    """For each value the sum of the earlier values of its group, over the first dimension."""
    order_N = np.argsort(group_N, kind="stable")
    sorted_N = value_N[order_N]
    before_N = np.cumsum(sorted_N, 0) - sorted_N

    # Less what the groups before in the order have.
    group_N = group_N[order_N]
    begins_N = np.concatenate([[True], group_N[1:] != group_N[:-1]])
    first_N = np.maximum.accumulate(np.where(begins_N, np.arange(len(group_N)), 0))
    sums_N: NDArray[Any] = np.empty_like(before_N)
    sums_N[order_N] = before_N - before_N[first_N]
    return sums_N
