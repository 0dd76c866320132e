"""Simulated systems for measurements of the gate: outputs of many systems for the same rows.

A system draws one of several outputs of each row, independently of other systems. Rows are easy or
hard, which is the same for all systems, so that scores of two systems are correlated.

- `BLEU`: sentences with easy and hard words, and translations with sacreBLEU's own counts. BLEU is
  39, and the standard error 0.7 for a system and 0.6 for the difference of two, close to those of
  multi30k's 1,000 sentences (docs/results.md).
- `BLEU, other family`: the challengers find other words hard, and are as good over all sentences.
  The sentences of a test set are drawn from these.
- `accuracy`: texts of which a system labels 79 % correctly."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.gate import WORDS
from pipeline.scoring import mt_metrics
from pipeline.scoring.significance import Array, Score
from pipeline.scoring.tasks import classification

ROWS = 1000
_OUTPUTS = 12  # of each row and kind of system
_HARDNESS = (0.12, 0.27)  # Beta(a, b) of the chance that a system has a word wrong
_EASIER = 0.6  # share of the errors that a much better system makes


@dataclass(frozen=True, slots=True)
class Pool:
    """Outputs of two kinds of systems, the second T of 2T being of the other kind: units_TNK of N
    rows, and rows_TN, their share of `score` to first order."""

    units_TNK: Array
    rows_TN: Array
    score: Score
    resampled: bool  # the rows of a test set are drawn from the N rows

    @classmethod
    def of(cls, units: Sequence[Array], score: Score, resampled: bool = False) -> "Pool":
        """From the units_TNK of both kinds. The first-order shares are by the gradient of the score
        at the sums of the first kind."""
        mean_K = units[0].mean(0).sum(0)
        step_KK = np.eye(len(mean_K))
        gradient_K = (score(mean_K + step_KK) - score(mean_K - step_KK)) / 2
        units_TNK = np.concatenate(units)
        return cls(units_TNK, units_TNK @ gradient_K, score, resampled)

    def means(self) -> tuple[float, float]:
        """The scores of the two kinds of systems over all rows."""
        sums_RK = self.units_TNK.reshape(2, _OUTPUTS, *self.units_TNK.shape[1:]).mean(1).sum(1)
        first, second = self.score(sums_RK)
        return float(first), float(second)

    def standard_errors(self) -> tuple[float, float]:
        """Of a system of the first kind, and of the difference of two; means over several."""
        rows_TN = self.rows_TN[:_OUTPUTS]
        alone, paired = (
            float(x.std(1).mean() * np.sqrt(x.shape[1]))
            for x in (rows_TN, np.diff(rows_TN, axis=0))
        )
        return alone, paired

    def share_for(self, gain: float) -> float:
        """The share of rows from the second kind that gives the gain over the first."""
        low_K, high_K = (units_TNK.mean(0).sum(0) for units_TNK in np.split(self.units_TNK, 2))
        shares = np.linspace(0, 1, 1001)
        score_R = self.score(low_K + shares[:, None] * (high_K - low_K))
        return float(np.interp(gain, score_R - score_R[0], shares))


@dataclass(frozen=True, slots=True)
class Systems:
    """Systems on one test set: the output that each has drawn for each row, and rows_SN, the rows'
    share of each system's score."""

    pool: Pool
    row_N: NDArray[np.int64]
    chosen_SN: NDArray[np.int64]
    rows_SN: Array

    def differences(self, champion: int, challengers: slice) -> Array:
        """d_SN: the challengers' shares of the score minus the champion's."""
        d_SN: Array = self.rows_SN[challengers] - self.rows_SN[champion]
        return d_SN

    def units(self, system: int) -> Array:
        """units_NK of a system."""
        units_NK: Array = self.pool.units_TNK[self.chosen_SN[system], self.row_N]
        return units_NK


def draw(seed: Sequence[int], kind: str, shares: Sequence[float], rows: int = ROWS) -> Systems:
    """Draw systems on a test set; of the rows of each, the share in `shares` is by the second kind
    of system. Another number of rows draws them with replacement."""
    rng = np.random.default_rng(seed)
    pool = KINDS[kind]()
    resampled = pool.resampled or rows != ROWS
    row_N = rng.integers(0, ROWS, rows) if resampled else np.arange(ROWS)

    chosen_SN = rng.integers(0, _OUTPUTS, (len(shares), rows))
    is_second_SN = rng.random((len(shares), rows)) < np.asarray(shares)[:, None]
    chosen_SN += _OUTPUTS * is_second_SN
    return Systems(pool, row_N, chosen_SN, pool.rows_TN[chosen_SN, row_N])


def z_scores(d_SN: Array) -> Array:
    """The normal approximation of approximate randomisation: the sum of differences over the
    standard deviation of their sum with random signs."""
    z_S: Array = d_SN.sum(-1) / np.sqrt((d_SN**2).sum(-1))
    return z_S


@functools.cache
def _references() -> list[NDArray[np.str_]]:
    rng = np.random.default_rng(1)
    return [rng.choice(WORDS, rng.integers(6, 18)) for _ in range(ROWS)]


def _translate(seed: int, hardness_seed: int, errors: float) -> Array:
    """units_TNK of translations in which each word is wrong with `errors` times its hardness."""
    rng = np.random.default_rng(hardness_seed)
    hardness = [rng.beta(*_HARDNESS, len(words)) for words in _references()]
    rng = np.random.default_rng(seed)
    bleu = mt_metrics.text_metrics("none")["bleu"]
    units = [
        [
            bleu.sums(
                " ".join(np.where(rng.random(len(words)) < errors * hard, "wrong", words)),
                " ".join(words),
            )
            for words, hard in zip(_references(), hardness, strict=True)
        ]
        for _ in range(_OUTPUTS)
    ]
    return np.array(units, float)


@functools.cache
def _translators() -> Pool:
    """Equal systems, and much better ones of the same family."""
    return Pool.of([_translate(2, 2, 1.0), _translate(3, 2, _EASIER)], mt_metrics.bleu)


@functools.cache
def _families() -> Pool:
    """Two families that are equally good over all rows."""
    first = _translate(2, 2, 1.0)
    other = [_translate(4, 5, errors) for errors in (1.1, 0.9)]

    # Mix the other family's worse and better outputs until its score is the first one's.
    mixed = Pool.of(other, mt_metrics.bleu)
    wanted = float(mt_metrics.bleu(first.mean(0).sum(0)[None])[0])
    share = mixed.share_for(wanted - mixed.means()[0])
    is_better_TN1 = np.random.default_rng(6).random((*first.shape[:2], 1)) < share
    return Pool.of([first, np.where(is_better_TN1, other[1], other[0])], mt_metrics.bleu, True)


@functools.cache
def _classifiers() -> Pool:
    """Equal systems, and much better ones."""
    rng = np.random.default_rng(2)
    wrong_N = rng.beta(0.2, 0.8, ROWS)
    correct = [rng.random((_OUTPUTS, ROWS)) >= errors * wrong_N for errors in (1.0, _EASIER)]
    units = [np.stack([one, np.ones_like(one)], -1).astype(float) for one in correct]
    return Pool.of(units, classification.score)


KINDS: dict[str, Callable[[], Pool]] = {
    "BLEU": _translators,
    "BLEU, other family": _families,
    "accuracy": _classifiers,
}
