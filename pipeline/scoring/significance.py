"""The bootstrap over sums: intervals, paired tests and the correction for many pairs.

Every score is a function of column sums, so a resample of the test set is a weighted sum of its
units. Units must be independent: they are sums over blocks of dependent rows
(`pipeline.scoring.blocks`). The paired test compares two trainings and makes no claim about other
seeds, which `pipeline.scoring.seeds` does. Shapes: N resampling units, K sums, R resamples."""

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

_DRAWS_AT_ONCE = 1_000_000  # bounds memory
_RESAMPLES_PER_PAIR = 200  # at least, see `pairs`


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """The resamples of a split of a corpus, the same for every run, as paired tests need them."""

    samples: int
    confidence: float
    seed: int

    @staticmethod
    def of(evaluation: Evaluation, corpus: str, split: str) -> "Bootstrap":
        """The resamples of a split, by the params block `evaluation`."""
        seed = derive(evaluation.seed, f"bootstrap/{corpus}/{split}")
        return Bootstrap(samples=evaluation.bootstrap, confidence=evaluation.confidence, seed=seed)

    def sums(self, units_NK: Array) -> Array:
        """sums_RK: the column sums of each resample, N units drawn with replacement (Efron 1979).

        The draws are those of sacrebleu with SACREBLEU_SEED=seed. Sums of whole numbers are exact.
        """
        units = len(units_NK)
        generator = np.random.default_rng(self.seed)
        parts = []
        batch = max(1, _DRAWS_AT_ONCE // units)
        for start in range(0, self.samples, batch):
            rows = min(batch, self.samples - start)
            drawn_RN = generator.integers(0, units, size=(rows, units))

            # Count how often each resample has drawn each unit: offsets keep the resamples apart.
            offset_R1 = units * np.arange(rows)[:, None]
            counts = np.bincount((drawn_RN + offset_R1).ravel(), minlength=rows * units)
            parts.append(counts.reshape(rows, units).astype(np.float64) @ units_NK)
        return np.concatenate(parts)

    def interval(self, scores_R: Array) -> tuple[float, float]:
        """The percentile interval that holds the share `confidence` of the resampled scores, with
        the bounds that sacrebleu takes."""
        ordered = np.sort(scores_R)
        cut = int(len(ordered) * (1 - self.confidence) / 2 + 1e-9)  # against rounding down
        return float(ordered[cut]), float(ordered[len(ordered) - cut - 1])

    def estimate(self, units_NK: Array, score: Score) -> dict[str, float]:
        """`score`, and its interval from `low` to `high`."""
        low, high = self.interval(score(self.sums(units_NK)))
        return {"score": float(score(units_NK.sum(0, keepdims=True))[0]), "low": low, "high": high}


def sum_by_block(units_NK: Array, block_N: NDArray[np.int64]) -> Array:
    """Sum the rows of each block into a resampling unit, for a block bootstrap; blocks are in the
    order of their numbers."""
    order = np.argsort(block_N, kind="stable")
    starts = np.flatnonzero(np.diff(block_N[order], prepend=block_N[order][0] - 1))
    summed: Array = np.add.reduceat(units_NK[order], starts, axis=0)
    return summed


def paired_p(difference: float, differences_R: Array) -> float:
    """Two-sided p-value of a paired bootstrap test: the share of resamples under the null
    hypothesis with at least this difference.

    sacreBLEU's `--paired-bs` subtracts the mean of the *absolute* differences instead. For clear
    differences that is half of this p: a one-sided test, which calls about 10 % of equal systems
    different at p < 0.05."""
    if difference == 0:
        return 1.0

    # Shift the differences to the null hypothesis of a zero mean (Efron & Tibshirani 1993, 16.4).
    # Count the observed difference as one resample: the test is then valid for any number of them.
    shifted_R = np.abs(differences_R - differences_R.mean())
    return (1 + int(np.sum(shifted_R >= abs(difference)))) / (len(differences_R) + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for the number of tests (Holm 1979); the order stays the same."""
    if len(p_values) == 0:
        return []

    # The smallest of m p-values is multiplied by m, the next one by m - 1, ...; corrected p-values
    # never decrease.
    order = np.argsort(p_values, kind="stable")
    scaled = np.asarray(p_values, dtype=np.float64)[order] * np.arange(len(p_values), 0, -1)
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(scaled))
    return [float(p) for p in corrected]


@dataclass(frozen=True, slots=True)
class Pair:
    """Paired test of two runs: `difference` is first minus second; `corrected` is Holm's p over all
    pairs."""

    first: str
    second: str
    difference: float
    low: float
    high: float
    p: float
    corrected: float


def pairs(runs: Mapping[str, Array], score: Score, bootstrap: Bootstrap) -> list[Pair]:
    """Test every run against every later one; `runs` has the units_NK of each, for the same N
    units."""
    names = list(combinations(runs, 2))

    # The smallest p is 1 / (resamples + 1). Without more resamples for more pairs, it would not be
    # significant after the correction.
    bootstrap = replace(bootstrap, samples=max(bootstrap.samples, _RESAMPLES_PER_PAIR * len(names)))

    # Resample all runs at once, so that they share the resamples.
    all_sums = bootstrap.sums(np.concatenate(list(runs.values()), axis=1))
    sums_by_run = np.split(all_sums, len(runs), axis=1)
    resampled = {name: score(sums) for name, sums in zip(runs, sums_by_run, strict=True)}
    point = {name: float(score(units.sum(0, keepdims=True))[0]) for name, units in runs.items()}
    p_values = [paired_p(point[a] - point[b], resampled[a] - resampled[b]) for a, b in names]

    tests = []
    for (a, b), p, corrected in zip(names, p_values, holm(p_values), strict=True):
        low, high = bootstrap.interval(resampled[a] - resampled[b])
        tests.append(Pair(a, b, point[a] - point[b], low, high, p, corrected))
    return tests
