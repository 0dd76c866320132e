"""The distribution of an estimate's error if its variance is a sum of estimated parts.

With one part it is Student's t. With more, it is the distribution of Behrens (1929) and Fisher
(1935): the sum of independent t variables, each scaled by the standard error of its part.
Satterthwaite's approximation (1946) by a single t is the usual alternative. It takes the degrees of
freedom of the sum from the same noisy variances, and calls too many equal means different if a part
has very few (`benchmarks/calibration.py`).

A t variable is a normal one whose variance is divided by chi2(degrees) / degrees. So probabilities
are means of normal ones, here by the trapezoidal rule in the logarithm of that divisor."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_SMALLEST = 30.0  # divisors with a density below exp(-30) of the highest are left out
_STEPS = 50  # of Newton's method, at most


@dataclass(frozen=True, slots=True)
class VariancePart:
    """An estimated variance, in squared units of the score, and its degrees of freedom."""

    variance: float
    degrees: float


@dataclass(frozen=True, slots=True)
class ErrorDistribution:
    """A mixture of normal distributions around 0: variance_G, with the probabilities weight_G."""

    variance_G: Array
    weight_G: Array

    @staticmethod
    def of(parts: Sequence[VariancePart]) -> "ErrorDistribution":
        """Sum independent errors; parts without variance add none."""
        variance_G = np.zeros(1)
        weight_G = np.ones(1)
        for part in parts:
            if part.variance > 0:
                divisor_M, probability_M = _divisors(part.degrees)
                variance_G = np.add.outer(variance_G, part.variance / divisor_M).ravel()
                weight_G = np.multiply.outer(weight_G, probability_M).ravel()
        return ErrorDistribution(variance_G, weight_G)

    @property
    def is_zero(self) -> bool:
        """True if no part has any variance."""
        return not self.variance_G.any()

    def two_sided(self, error: float) -> float:
        """Return the probability of an error of at least this size, of either sign."""
        if error == 0:
            return 1.0
        if self.is_zero:
            return 0.0
        ratio_G = abs(error) / np.sqrt(2 * self.variance_G)
        tail_G = np.array([math.erfc(ratio) for ratio in ratio_G.tolist()])
        return min(1.0, float(tail_G @ self.weight_G))

    def quantile(self, probability: float) -> float:
        """Return the size that an error exceeds with this probability, in either direction.

        `probability` is between 0 and 1, both excluded."""
        if self.is_zero:
            return 0.0

        # Newton's method for log(probability) as a function of log(size), within a bracket.
        size = math.sqrt(float(self.variance_G @ self.weight_G))
        low = 0.0
        high = math.inf
        for _ in range(_STEPS):
            tail = self.two_sided(size)
            low, high = (size, high) if tail > probability else (low, size)
            slope = size * self._density(size) / max(tail, 1e-300)
            step = math.log(max(tail, 1e-300) / probability) / slope
            if abs(step) < 1e-12:
                break
            size *= math.exp(min(max(step, -2.0), 2.0))
            if not low < size < high:
                size = (low + high) / 2 if math.isfinite(high) else 2 * low
        return size

    def detectable(self, level: float, power: float) -> float:
        """Return the true difference that a two-sided test at `level` finds with probability
        `power`: the critical value plus a quantile of the error (Cohen 1988, chapter 2)."""
        return self.quantile(level) + self.quantile(2 * (1 - power))

    def _density(self, error: float) -> float:
        """Density of the size of an error."""
        density_G = np.exp(-(error**2) / (2 * self.variance_G)) / np.sqrt(self.variance_G)
        return math.sqrt(2 / math.pi) * float(density_G @ self.weight_G)


def _divisors(degrees: float) -> tuple[Array, Array]:
    """Values of chi2(degrees) / degrees and their probabilities."""
    # The density of their logarithm u is proportional to exp(degrees / 2 * (u - e ** u)).
    deviation = math.sqrt(2 / degrees)
    first = -2 * _SMALLEST / degrees - 8 * deviation
    last = math.log1p(2 * _SMALLEST / degrees) + 8 * deviation
    u_M = np.arange(first, last, min(0.4, 0.7 * deviation))
    exponent_M = degrees / 2 * (u_M - np.exp(u_M) + 1)

    u_M = u_M[exponent_M > -_SMALLEST]
    density_M = np.exp(exponent_M[exponent_M > -_SMALLEST])
    return np.exp(u_M), density_M / density_M.sum()
