"""Simulated scores of settings whose expected scores are known, row by row, for
`benchmarks.calibration`.

A setting has seeds, whose true scores differ. Its rows differ in how hard they are for all
settings, for this setting, and for a single training. Rows with the same source are one resampling
unit, and a training gives them one output.

Shapes: S seeds, U units, N rows, K sums."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from benchmarks import gate
from pipeline.scoring import mt_metrics
from pipeline.scoring.significance import Array, Score, sum_by_block
from pipeline.scoring.tasks import classification

# Translations of a source in fra_eng's test split (presets/d2l.yaml, the first 20,000 pairs):
# {translations: sources}, 951 rows of 592 sources.
FRA_ENG = {1: 357, 2: 177, 3: 25, 4: 18, 5: 4, 6: 7, 7: 2, 8: 1, 9: 1}
FIVE_EACH = {5: 190}
SINGLE = {1: 951}

ERRORS = np.linspace(0.0, 0.8, 21)  # shares of wrong words of the simulated translations
OUTPUTS = 4  # simulated outputs for each source and share
VARIED = 0.1  # share of words in which references of a source differ

# Standard deviations of the effects on a row, in units of the noise of a single training.
EASE = 1.5  # for all settings
SETTING_EASE = 0.7  # for one setting
# The same for translations, in steps of ERRORS.
SETTING_STEPS = 2.0
TRAINING_STEPS = 1.0


@dataclass(frozen=True, slots=True)
class SeedEffects:
    """The distribution of a setting's true score over seeds: normal, but the share `failing` of
    seeds fails and has the score `failed`."""

    deviation: float
    failing: float = 0.0
    failed: float = 0.0

    def draw(self, rng: np.random.Generator, mean: float, seeds: int) -> Array:
        """Draw the true scores of the seeds; `mean` is that of seeds that do not fail."""
        scores_S = mean + self.deviation * rng.standard_normal(seeds)
        return np.where(rng.random(seeds) < self.failing, self.failed, scores_S)


@dataclass(frozen=True, slots=True)
class Simulation:
    """Two settings on the same rows; `draw(rng, seeds, gain)` returns units_SUK of both.

    The second setting's scores are higher by `gain` points."""

    name: str
    score: Score
    draw: Callable[[np.random.Generator, int, float], tuple[Array, Array]]


def block_numbers(sizes: dict[int, int]) -> NDArray[np.int64]:
    """block_N of blocks of these sizes, given as {rows of a block: number of such blocks}."""
    rows = [size for size, count in sizes.items() for _ in range(count)]
    return np.repeat(np.arange(len(rows)), rows)


def classifiers(
    name: str, first: SeedEffects, second: SeedEffects, mean: float = 86.0, rows: int = 2000
) -> Simulation:
    """Classifiers with these true accuracies, in per cent, on unlike texts."""

    def draw(rng: np.random.Generator, seeds: int, gain: float) -> tuple[Array, Array]:
        ease_N = EASE * rng.standard_normal(rows)
        first_SUK = _labels(rng, first.draw(rng, mean, seeds), ease_N)
        second_SUK = _labels(rng, second.draw(rng, mean + gain, seeds), ease_N)
        return first_SUK, second_SUK

    return Simulation(name, classification.score, draw)


def _labels(rng: np.random.Generator, accuracy_S: Array, ease_N: Array) -> Array:
    """units_SU2 of classifiers with these true accuracies: [1 if correct else 0, 1]."""
    total = float(np.sqrt(EASE**2 + SETTING_EASE**2 + 1))
    shares = np.clip(accuracy_S / 100, 0.01, 0.99)
    skill_S = total * np.array([NormalDist().inv_cdf(share) for share in shares.tolist()])
    setting_N = ease_N + SETTING_EASE * rng.standard_normal(len(ease_N))
    noise_SN = rng.standard_normal((len(skill_S), len(ease_N)))
    correct_SN = skill_S[:, None] + setting_N + noise_SN > 0
    return np.stack([correct_SN, np.ones_like(correct_SN)], 2).astype(np.float64)


def translators(
    name: str,
    first: SeedEffects,
    second: SeedEffects,
    sizes: dict[int, int],
    mean: float = 36.0,
    by_row: bool = False,
) -> Simulation:
    """Translators with these true BLEU scores; `by_row` takes rows as independent units."""

    def draw(rng: np.random.Generator, seeds: int, gain: float) -> tuple[Array, Array]:
        first_SNK = _translations(rng, first.draw(rng, mean, seeds), sizes)
        second_SNK = _translations(rng, second.draw(rng, mean + gain, seeds), sizes)
        if by_row:
            return first_SNK, second_SNK
        block_N = block_numbers(sizes)
        first_SUK, second_SUK = (
            np.stack([sum_by_block(sums_NK, block_N) for sums_NK in sums_SNK])
            for sums_SNK in (first_SNK, second_SNK)
        )
        return first_SUK, second_SUK

    return Simulation(name, mt_metrics.bleu, draw)


def _translations(rng: np.random.Generator, bleu_S: Array, sizes: dict[int, int]) -> Array:
    """sums_SNK of translators with these true BLEU scores."""
    sums_EONK, bleu_E = _bank(tuple(sizes.items()))
    block_N = block_numbers(sizes)
    units = block_N[-1] + 1

    # Some sources are easier for this setting: their outputs have fewer or more wrong words.
    level_S = np.interp(-bleu_S, -bleu_E, np.arange(len(bleu_E)))
    setting_U = rng.normal(0, SETTING_STEPS, units)
    training_SU = rng.normal(0, TRAINING_STEPS, (len(bleu_S), units))
    level_SU = np.rint(level_S[:, None] + setting_U + training_SU)
    level_SU = np.clip(level_SU, 0, len(bleu_E) - 1).astype(np.int64)
    output_SU = rng.integers(0, OUTPUTS, level_SU.shape)
    rows = np.arange(len(block_N))
    return sums_EONK[level_SU[:, block_N], output_SU[:, block_N], rows]


@functools.cache
def _bank(sizes: tuple[tuple[int, int], ...]) -> tuple[Array, Array]:
    """sums_EONK of OUTPUTS outputs with each share of wrong words, and bleu_E, the corpus BLEU if
    shares vary around each one as `_translations` varies them.

    References of one source differ in some words; the output for a source is the same for all."""
    rng = np.random.default_rng(1)
    block_N = block_numbers(dict(sizes))
    meanings = [rng.choice(gate.WORDS, rng.integers(4, 10)) for _ in range(block_N[-1] + 1)]
    references = [" ".join(_altered(rng, meanings[block], VARIED)) + " ." for block in block_N]

    metric = mt_metrics.text_metrics("13a")["bleu"]
    sums_EONK = np.zeros((len(ERRORS), OUTPUTS, len(block_N), 2 + 2 * mt_metrics.ORDERS))
    for level, share in enumerate(ERRORS):
        for number in range(OUTPUTS):
            outputs = [" ".join(_altered(rng, words, share)) + " ." for words in meanings]
            sums_EONK[level, number] = [
                metric.sums(outputs[block], reference)
                for block, reference in zip(block_N, references, strict=True)
            ]

    levels = np.arange(len(ERRORS))
    bleu_E = np.zeros(len(ERRORS))
    for level in levels:
        steps = rng.normal(0, np.hypot(SETTING_STEPS, TRAINING_STEPS), 10_000)
        drawn = np.clip(np.rint(level + steps), 0, levels[-1]).astype(np.int64)
        share_E = np.bincount(drawn, minlength=len(levels)) / len(drawn)
        bleu_E[level] = mt_metrics.bleu((share_E @ sums_EONK.sum((1, 2)))[None])[0]
    return sums_EONK, bleu_E


def _altered(rng: np.random.Generator, words: NDArray[np.str_], share: float) -> NDArray[np.str_]:
    """The words with a share of them drawn anew."""
    return np.where(rng.random(len(words)) < share, rng.choice(gate.WORDS, len(words)), words)
