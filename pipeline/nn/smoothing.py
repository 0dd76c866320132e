"""Smoothing of n-gram models, interpolated: each order's estimate is mixed with that of the order
below, and the lowest with equal probabilities.

Kneser-Ney with one discount per order (Kneser and Ney 1995) or three (modified, Chen and Goodman
1999): p(w | h) = (max(c(hw) - D, 0) + D N(h) p(w | h')) / c(h), with the discount D of the count
c(hw), N(h) different tokens after h, each with its discount, and h' without the first token of h.

Witten-Bell (Witten and Bell 1991, method C): p(w | h) = (c(hw) + k N(h) p(w | h')) / (c(h) +
k N(h)) with k = 1. Another k, chosen on validation text, is an extension.

Shapes: T tokens, C contexts, K = 3 kinds of counts (1, 2, 3 and more), P parameters of an order."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.nn.ngrams import ABSENT, Counts, Ints, Ngrams, reach

Floats = NDArray[np.float64]
Smoothing = Literal["kneser_ney", "modified_kneser_ney", "witten_bell"]

KINDS = 3
FALLBACK = (0.5, 1.0, 1.5)
"""Discounts where too few n-grams have a count of 1 to 4 to estimate them, as for letters: KenLM's
`--discount_fallback`."""
LEAST = 0.001  # of a parameter: with 0, an unseen token could have probability 0
DIGITS = 3  # of a parameter chosen on validation text, so that it depends on no rounding error
MOST_WITTEN_BELL = 20.0
_SWEEPS = 20  # of the search on validation text, at most
_ENOUGH = 1e-6  # nats per token: a sweep that gains less is the last


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one order knows of T tokens: the count of the n-gram, and the sums of its context; all 0
    where the context is unknown."""

    count_T: Ints
    total_T: Ints
    followers_TK: Ints


@dataclass(frozen=True, slots=True)
class Contexts:
    """Of C contexts: the sum of the counts of the n-grams that continue them, and the number of
    these n-grams by kind of count."""

    total_C: Ints
    followers_CK: Ints

    @classmethod
    def of(cls, ngrams: Ngrams, n: int, counts_G: Counts) -> "Contexts":
        """The contexts of the n-grams of order n, which have the counts `counts_G`."""
        parent_G = ngrams.parents(n)
        contexts = ngrams.context_count(n)
        total_C = np.bincount(parent_G, counts_G, contexts).astype(np.int64)

        # An n-gram of count 0 is only a context: the first token of the stream.
        seen_G = counts_G > 0
        kind_G = np.minimum(counts_G[seen_G], KINDS) - 1
        cell_G = parent_G[seen_G] * KINDS + kind_G
        followers = np.bincount(cell_G, minlength=contexts * KINDS)
        return cls(total_C, followers.reshape(contexts, KINDS))

    def evidence(self, context_T: Ints, count_T: Ints | Counts) -> Evidence:
        """The evidence of n-grams with these counts after contexts with these numbers."""
        return Evidence(
            np.where(context_T == ABSENT, 0, count_T).astype(np.int64),
            take(self.total_C, context_T),
            take(self.followers_CK, context_T),
        )


def stream_evidence(
    ngrams: Ngrams, counts: Sequence[Counts], contexts: Sequence[Contexts], ids_T: Ints
) -> list[Evidence]:
    """The evidence of each order for all tokens of a stream but the first."""
    numbers = ngrams.numbers(ids_T)
    reach_T = reach(ids_T, ngrams.across_rows)[1:]
    orders = []
    for n in range(1, ngrams.order + 1):
        # The n-gram ends at the token, its context at the token before.
        count_T = take(counts[n - 1], numbers[n][1:])
        context_T = np.where(reach_T >= n, numbers[n - 1][:-1], ABSENT)
        orders.append(contexts[n - 1].evidence(context_T, count_T))
    return orders


def take(values: NDArray[Any], places: Ints) -> NDArray[Any]:
    """The values at the places, 0 at the place ABSENT."""
    if not len(values):
        return np.zeros((len(places), *values.shape[1:]), values.dtype)
    taken = values[places]
    taken[places == ABSENT] = 0
    return taken


def shares(smoothing: Smoothing, evidence: Evidence, parameters_P: Floats) -> tuple[Floats, Floats]:
    """Of each token the share of its own n-gram in its probability, and the share that its order
    gives to the order below: p = share_T + below_T * p_below.

    All is the order's below where the context is unknown."""
    count_T = evidence.count_T
    total_T = np.where(evidence.total_T == 0, 1, evidence.total_T)
    if smoothing == "witten_bell":
        weight_T = parameters_P[0] * evidence.followers_TK.sum(1)
        share_T = count_T / (total_T + weight_T)
        below_T = weight_T / (total_T + weight_T)
    else:
        discount_K = np.broadcast_to(parameters_P, KINDS)
        discount_T = discount_K[np.clip(count_T, 1, KINDS) - 1]
        share_T = np.maximum(count_T - discount_T, 0.0) / total_T
        below_T = (evidence.followers_TK * discount_K).sum(1) / total_T
    is_known_T = evidence.total_T > 0
    return np.where(is_known_T, share_T, 0.0), np.where(is_known_T, below_T, 1.0)


def probabilities(
    smoothing: Smoothing, orders: Sequence[Evidence], parameters_NP: Floats, lowest_T: Floats
) -> Floats:
    """The probability of each token. `lowest_T`: its probability without any n-gram."""
    p_T = lowest_T
    for evidence, parameters_P in zip(orders, parameters_NP, strict=True):
        share_T, below_T = shares(smoothing, evidence, parameters_P)
        p_T = share_T + below_T * p_T
    return p_T


# Discounts


def estimate(smoothing: Smoothing, counts: Sequence[Counts]) -> Floats:
    """The parameters that the counts determine: parameters_NP, a row for each order.

    Kneser-Ney's discounts are the estimates of Chen and Goodman (1999) from the numbers of n-grams
    with the counts 1 to 4. Where these are undefined or out of range, FALLBACK replaces them.
    Witten-Bell has k = 1."""
    if smoothing == "witten_bell":
        return np.ones((len(counts), 1))
    rows = []
    for counts_G in counts:
        ones, twos, threes, fours = (int((counts_G == count).sum()) for count in range(1, 5))
        y = ones / (ones + 2 * twos) if ones and twos else 0.0
        if smoothing == "kneser_ney":
            rows.append([y or FALLBACK[0]])
            continue

        discounts = FALLBACK
        if y and threes and fours:
            estimates = (
                1 - 2 * y * twos / ones,
                2 - 3 * y * threes / twos,
                3 - 4 * y * fours / threes,
            )
            if all(
                0 < value <= largest
                for value, largest in zip(estimates, most(smoothing), strict=True)
            ):
                discounts = estimates
        rows.append(list(discounts))
    return np.array(rows)


def most(smoothing: Smoothing) -> tuple[float, ...]:
    """The largest value of each parameter of an order."""
    if smoothing == "witten_bell":
        return (MOST_WITTEN_BELL,)
    return (1.0,) if smoothing == "kneser_ney" else (1.0, 2.0, 3.0)


def choose(
    smoothing: Smoothing, orders: Sequence[Evidence], start_NP: Floats, lowest_T: Floats
) -> Floats:
    """The parameters with the smallest loss on the tokens of `orders`, from those of `start_NP`.

    One parameter at a time, rounded to DIGITS; in each discount the loss is convex, since the
    probability is linear in it."""
    parameters_NP = start_NP.copy()

    def loss_with(n: int, p: int) -> Callable[[float], float]:
        """The loss as a function of the parameter p of the order n."""
        below_T = probabilities(smoothing, orders[:n], parameters_NP[:n], lowest_T)
        above = [
            shares(smoothing, *row)
            for row in zip(orders[n + 1 :], parameters_NP[n + 1 :], strict=True)
        ]

        def loss(value: float) -> float:
            parameters_P = parameters_NP[n].copy()
            parameters_P[p] = value
            p_T = probabilities(smoothing, orders[n : n + 1], parameters_P[None], below_T)
            for share_T, below_above_T in above:
                p_T = share_T + below_above_T * p_T
            return float(-np.log(p_T).mean())

        return loss

    before = np.inf
    for _ in range(_SWEEPS):
        for n in range(len(orders)):
            for p, largest in enumerate(most(smoothing)):
                parameters_NP[n, p] = round(minimum(loss_with(n, p), LEAST, largest), DIGITS)
        p_T = probabilities(smoothing, orders, parameters_NP, lowest_T)
        after = float(-np.log(p_T).mean())
        if before - after < _ENOUGH:
            break
        before = after
    return parameters_NP


def minimum(function: Callable[[float], float], low: float, high: float, steps: int = 22) -> float:
    """The place of the minimum of a function with one minimum, by golden section."""
    ratio = (5**0.5 - 1) / 2
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    at_left, at_right = function(left), function(right)
    for _ in range(steps):
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - ratio * (high - low)
            at_left = function(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + ratio * (high - low)
            at_right = function(right)
    return left if at_left <= at_right else right
