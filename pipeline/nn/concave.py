"""Parameters that are fitted on validation data by the slope of a concave log-likelihood."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

_HALVINGS = 60


def concave_maximum(slope: Callable[[float], float], low: float, high: float) -> float:
    """Place of the maximum in [low, high] of a concave function with this slope, by bisection."""
    if slope(high) > 0:
        return high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if slope(middle) > 0:
            low = middle
        else:
            high = middle
    return low


def mixture_share(first_N: NDArray[np.float64], second_N: NDArray[np.float64]) -> float:
    """Share s in [0, 1) of the second distribution that makes the mixture (1 - s) first + s second
    likeliest.

    `first_N` and `second_N` are the probabilities that the two give to the same N tokens (deleted
    interpolation, Jelinek and Mercer 1980). Those of `first_N` are above 0; so are the mixture's.
    """
    assert (first_N > 0).all()
    difference_N = second_N - first_N

    def slope(share: float) -> float:
        return float((difference_N / (first_N + share * difference_N)).sum())

    # With share 1, a token that the second distribution lacks would be impossible.
    return concave_maximum(slope, 0.0, 1 - 1e-6)
