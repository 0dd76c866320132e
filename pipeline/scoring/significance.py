"""The bootstrap over sums: intervals, paired tests and the correction for many pairs.

Every score here is a function of column sums, so one resample of the test set is a weighted sum of
its rows. Shapes: N resampling units (rows or blocks of rows), K sums, R resamples."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from pipeline.core.params import Evaluation
from pipeline.core.seeding import derive

Array = NDArray[np.float64]
Score = Callable[[Array], Array]
"""From sums_RK to scores_R."""

_DRAWS_AT_ONCE = 1_000_000
_RESAMPLES_PER_PAIR = 200


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """The resamples of one split of one corpus: the same for every run, so that runs are compared
    on the same resamples."""

    samples: int
    confidence: float
    seed: int

    @staticmethod
    def of(evaluation: Evaluation, corpus: str, split: str) -> "Bootstrap":
        seed = derive(evaluation.seed, f"bootstrap/{corpus}/{split}")
        return Bootstrap(samples=evaluation.bootstrap, confidence=evaluation.confidence, seed=seed)

    def sums(self, units_NK: Array) -> Array:
        """sums_RK: the column sums of each resample, N units drawn with replacement (Efron 1979).

        Draws as sacrebleu does under SACREBLEU_SEED=seed. Sums of whole numbers are exact.
        """
        units, generator = len(units_NK), np.random.default_rng(self.seed)
        parts = []
        at_once = max(1, _DRAWS_AT_ONCE // units)
        for start in range(0, self.samples, at_once):
            rows = min(at_once, self.samples - start)
            drawn = (
                generator.integers(0, units, size=(rows, units)) + units * np.arange(rows)[:, None]
            )
            times = np.bincount(drawn.ravel(), minlength=rows * units).reshape(rows, units)
            parts.append(times.astype(np.float64) @ units_NK)
        return np.concatenate(parts)

    def interval(self, scores_R: Array) -> tuple[float, float]:
        """The central interval that holds the share `confidence` of the resampled scores, cut as
        sacrebleu cuts it."""
        ordered = np.sort(scores_R)
        cut = int(len(ordered) * (1 - self.confidence) / 2 + 1e-9)
        return float(ordered[cut]), float(ordered[len(ordered) - cut - 1])

    def estimate(self, units_NK: Array, score: Score) -> dict[str, float]:
        """`score`, and its interval from `low` to `high`."""
        low, high = self.interval(score(self.sums(units_NK)))
        return {"score": float(score(units_NK.sum(0, keepdims=True))[0]), "low": low, "high": high}


def sum_by_block(units_NK: Array, block_N: NDArray[np.int64]) -> Array:
    """Rows of one block summed into one resampling unit; blocks in the order of their numbers."""
    order = np.argsort(block_N, kind="stable")
    starts = np.flatnonzero(np.diff(block_N[order], prepend=block_N[order][0] - 1))
    summed: Array = np.add.reduceat(units_NK[order], starts, axis=0)
    return summed


def paired_p(difference: float, differences_R: Array) -> float:
    """Two-sided p-value of a paired bootstrap: how often chance alone moves the difference by as
    much as was seen.

    The resampled differences are shifted to the null hypothesis of no difference (Efron &
    Tibshirani 1993, 16.4); +1 on both sides keeps the test honest at any number of resamples.
    sacreBLEU's `--paired-bs` subtracts the mean of the *absolute* differences instead. For clear
    differences that is half of this p: a one-sided test, which calls about 10 % of equal systems
    different at p < 0.05."""
    if difference == 0:
        return 1.0
    moved = np.abs(differences_R - differences_R.mean())
    return (1 + int(np.sum(moved >= abs(difference)))) / (len(differences_R) + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for all the pairs tested at once (Holm 1979), in the order given."""
    order = np.argsort(p_values, kind="stable")
    raised = np.asarray(p_values, dtype=np.float64)[order] * np.arange(len(p_values), 0, -1)
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(raised)) if len(p_values) else []
    return [float(p) for p in corrected]


@dataclass(frozen=True, slots=True)
class Pair:
    """One run against another: `difference` is first minus second; `corrected` is Holm's p over all
    pairs compared."""

    first: str
    second: str
    difference: float
    low: float
    high: float
    p: float
    corrected: float


def pairs(runs: Mapping[str, Array], score: Score, bootstrap: Bootstrap) -> list[Pair]:
    """Every run against every later one, on the same resamples; `runs` gives each one's units_NK of
    the same N units.

    More pairs take more resamples, or the smallest possible p, corrected, would be no longer small.
    """
    couples = list(combinations(runs, 2))
    bootstrap = replace(
        bootstrap, samples=max(bootstrap.samples, _RESAMPLES_PER_PAIR * len(couples))
    )
    sums = np.split(bootstrap.sums(np.concatenate(list(runs.values()), axis=1)), len(runs), axis=1)
    resampled = {name: score(one) for name, one in zip(runs, sums, strict=True)}
    point = {name: float(score(units.sum(0, keepdims=True))[0]) for name, units in runs.items()}
    p_values = [paired_p(point[a] - point[b], resampled[a] - resampled[b]) for a, b in couples]
    found = []
    for (a, b), p, corrected in zip(couples, p_values, holm(p_values), strict=True):
        low, high = bootstrap.interval(resampled[a] - resampled[b])
        found.append(Pair(a, b, point[a] - point[b], low, high, p, corrected))
    return found
