"""Promotion rates of the gate's tests for challengers of known quality: equal to the champion,
worse, or better.

    python -m benchmarks.gate [--challenges 1000] [--resamples 199]

Systems are sampled row by row. `means`: a score for each row, with row effects common to both
systems. `corpus BLEU`: sentences with a share of wrong words, scored by sacreBLEU's own counts. The
output also has the number of promotions of equal challengers that chance explains at the level.
`tests/promotion/test_promotion.py` asserts these numbers."""

import argparse
import functools
import itertools
import math
from collections.abc import Callable

import numpy as np

from pipeline.promotion.one_sided_significance import p_value, score_difference
from pipeline.scoring import mt_metrics
from pipeline.scoring.significance import Array, Score

CHALLENGES = 1000
LEVEL = 0.05
RESAMPLES = 199
ROWS = 100
METHODS = ("approximate_randomisation", "paired_bootstrap")
WORDS = [
    "the",
    "a",
    "cat",
    "dog",
    "house",
    "tree",
    "river",
    "small",
    "old",
    "red",
    "sees",
    "likes",
    "finds",
    "near",
    "under",
    "with",
    "and",
    "never",
    "often",
]
SENTENCES = 300
TRANSLATIONS = 3  # of each sentence
WRONG = 0.2  # share of the champion's words
DIRECTIONS = {"equal": 0, "worse": -1, "better": 1}
Pair = tuple[Array, Array]


def binomial_limit(share: float, challenges: int = CHALLENGES) -> int:
    """The 99.9 % quantile of Binomial(challenges, share): more than so many would not be chance."""
    n = challenges
    log_p, log_q = math.log(share), math.log(1 - share)
    log_binomials = (
        math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) for k in range(n + 1)
    )
    probabilities = (
        math.exp(log_binomial + k * log_p + (n - k) * log_q)
        for k, log_binomial in enumerate(log_binomials)
    )
    return next(k for k, total in enumerate(itertools.accumulate(probabilities)) if total >= 0.999)


def mean(sums_RK: Array) -> Array:
    return sums_RK[:, 0] / sums_RK[:, 1]


def draw_scores(rng: np.random.Generator, gain: float, rows: int = ROWS) -> Pair:
    """Sample the scores of two systems on the same rows; they are equal in distribution except for
    `gain`."""
    row_effect = rng.normal(0, 1, rows)
    champion, challenger = (
        np.stack([row_effect + rng.normal(0, 1, rows), np.ones(rows)], 1) for _ in range(2)
    )
    challenger[:, 0] += gain
    return champion, challenger


@functools.cache
def bleu_sums(wrong: float) -> Array:
    """sacreBLEU's sums (TRANSLATIONS, SENTENCES, K) of synthetic sentences, with a share of wrong
    words."""
    bleu = mt_metrics.text_metrics()["bleu"]
    rng = np.random.default_rng(1)
    references = [[*rng.choice(WORDS, rng.integers(4, 14)), "."] for _ in range(SENTENCES)]

    # Each word is replaced by a random one with probability `wrong`.
    rng = np.random.default_rng(round(1000 * wrong))
    translations = [
        [
            [str(rng.choice(WORDS)) if rng.random() < wrong else word for word in reference]
            for reference in references
        ]
        for _ in range(TRANSLATIONS)
    ]
    return np.array(
        [
            [
                bleu.sums(*(" ".join(words) for words in pair))
                for pair in zip(translation, references, strict=True)
            ]
            for translation in translations
        ],
        float,
    )


def draw_translations(rng: np.random.Generator, gain: float, rows: int = ROWS) -> Pair:
    """Sample two systems' translations of the same sentences; the second has `gain` fewer wrong
    words, as a share."""
    row = rng.integers(0, SENTENCES, rows)
    champion, challenger = (
        bleu_sums(share)[rng.integers(0, TRANSLATIONS, rows), row]
        for share in (WRONG, round(WRONG - gain, 3))
    )
    return champion, challenger


KINDS: dict[str, tuple[Callable[[np.random.Generator, float], Pair], Score, float]] = {
    "means": (draw_scores, mean, 0.5),
    "corpus BLEU": (draw_translations, mt_metrics.bleu, 0.08),
}


@functools.cache
def simulate(
    method: str, kind: str, direction: int, challenges: int = CHALLENGES, resamples: int = RESAMPLES
) -> tuple[Array, Array]:
    """Return p and the observed difference of each challenge.

    `direction`: the challenger is better (1), equal (0) or worse (-1)."""
    draw, score, gain = KINDS[kind]
    pairs = [
        draw(np.random.default_rng([i, direction + 1]), direction * gain) for i in range(challenges)
    ]
    p = [p_value(method, *pair, score, True, resamples, i) for i, pair in enumerate(pairs)]
    return np.array(p), np.array([score_difference(*pair, score) for pair in pairs])


def promotions_on_few_rows(rows: int = 6) -> dict[str, int]:
    """Promotions of CHALLENGES equal challengers on very few rows, by method."""
    pairs = [draw_scores(np.random.default_rng([i, 9]), 0.0, rows) for i in range(CHALLENGES)]
    return {
        method: sum(
            p_value(method, *pair, mean, True, RESAMPLES, i) < LEVEL for i, pair in enumerate(pairs)
        )
        for method in METHODS
    }


def promotions_of_best_of_ten() -> dict[str, int]:
    """Promotions of CHALLENGES where the best of ten equal runs challenges an equal champion.

    By the split that selects the best run: the valid split, or the test set that decides."""
    promoted = {"valid": 0, "test": 0}
    for i in range(CHALLENGES):
        rng = np.random.default_rng([i, 4])
        valid_scores = rng.normal(size=(10, ROWS)).mean(1)
        champion, *runs = rng.normal(size=(11, ROWS))
        best = {
            "valid": int(np.argmax(valid_scores)),
            "test": int(np.argmax([scores.mean() for scores in runs])),
        }
        for split, run in best.items():
            pair = [np.stack([scores, np.ones(ROWS)], 1) for scores in (champion, runs[run])]
            promoted[split] += p_value(METHODS[0], *pair, mean, True, RESAMPLES, i) < LEVEL
    return promoted


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--challenges", type=int, default=CHALLENGES)
    parser.add_argument("--resamples", type=int, default=RESAMPLES)
    a = parser.parse_args()

    print(
        f"promoted of {a.challenges} challengers, {ROWS} rows, {a.resamples} resamples, level "
        f"{LEVEL}"
    )
    for method, kind in itertools.product(METHODS, KINDS):
        p = {
            name: simulate(method, kind, sign, a.challenges, a.resamples)[0]
            for name, sign in DIRECTIONS.items()
        }
        counts = ", ".join(f"{name} {int((values < LEVEL).sum())}" for name, values in p.items())
        print(
            f"  {method}, {kind}: {counts} (equal: chance explains "
            f"{binomial_limit(LEVEL, a.challenges)})"
        )
    print(f"equal ones on six rows, of {CHALLENGES}: {promotions_on_few_rows()}")
    print(f"the best of ten equal runs, of {CHALLENGES}, chosen by: {promotions_of_best_of_ten()}")


if __name__ == "__main__":
    main()
