"""How often the gate's tests promote a challenger whose truth is known: equal to the champion,
worse, or better.

    python -m benchmarks.gate [--challenges 1000] [--resamples 199]

Systems are drawn row by row. `means`: a mark for each row, some rows being hard for both. `corpus
BLEU`: sentences with a share of their words wrong, scored by sacreBLEU's own counts. Beside the
promotions of equal challengers stands how many chance explains at the level. `tests/test_gate.py`
holds the gate to these numbers."""

import argparse
import functools
import itertools
import math
from collections.abc import Callable

import numpy as np

from pipeline.promotion.significance import p_value, score_difference
from pipeline.scoring import mt_metrics
from pipeline.scoring.significance import Array, Score

CHALLENGES, LEVEL, RESAMPLES, ROWS = 1000, 0.05, 199, 100
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
SENTENCES, ANSWERS, WRONG = 300, 3, 0.2
DIRECTIONS = {"equal": 0, "worse": -1, "better": 1}
Pair = tuple[Array, Array]


def binomial_limit(share: float, challenges: int = CHALLENGES) -> int:
    """The 99.9 % quantile of Binomial(challenges, share): more than so many would not be chance."""
    one, other, n = math.log(share), math.log(1 - share), challenges
    ways = (math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) for k in range(n + 1))
    chances = (math.exp(way + k * one + (n - k) * other) for k, way in enumerate(ways))
    return next(k for k, total in enumerate(itertools.accumulate(chances)) if total >= 0.999)


def mean(sums_RK: Array) -> Array:
    return sums_RK[:, 0] / sums_RK[:, 1]


def draw_scores(rng: np.random.Generator, gain: float, rows: int = ROWS) -> Pair:
    """Two systems' marks of the same rows, some of which are hard: alike in distribution but for
    the gain."""
    hard = rng.normal(0, 1, rows)
    one, other = (np.stack([hard + rng.normal(0, 1, rows), np.ones(rows)], 1) for _ in range(2))
    other[:, 0] += gain
    return one, other


@functools.cache
def bleu_sums(wrong: float) -> Array:
    """sacreBLEU's sums (ANSWERS, SENTENCES, K) of made sentences, each answered with that share of
    its words wrong."""
    rng, bleu = np.random.default_rng(1), mt_metrics.measures()["bleu"]
    wanted = [[*rng.choice(WORDS, rng.integers(4, 14)), "."] for _ in range(SENTENCES)]
    rng = np.random.default_rng(round(1000 * wrong))
    answers = [
        [
            [str(rng.choice(WORDS)) if rng.random() < wrong else word for word in row]
            for row in wanted
        ]
        for _ in range(ANSWERS)
    ]
    return np.array(
        [
            [
                bleu.sums(*(" ".join(words) for words in pair))
                for pair in zip(a, wanted, strict=True)
            ]
            for a in answers
        ],
        float,
    )


def draw_translations(rng: np.random.Generator, gain: float, rows: int = ROWS) -> Pair:
    """The same sentences by two translators; the second has `gain` of the words wrong less than the
    first."""
    row = rng.integers(0, SENTENCES, rows)
    one, other = (
        bleu_sums(share)[rng.integers(0, ANSWERS, rows), row]
        for share in (WRONG, round(WRONG - gain, 3))
    )
    return one, other


KINDS: dict[str, tuple[Callable[[np.random.Generator, float], Pair], Score, float]] = {
    "means": (draw_scores, mean, 0.5),
    "corpus BLEU": (draw_translations, mt_metrics.bleu, 0.08),
}


@functools.cache
def simulate(
    method: str, kind: str, direction: int, challenges: int = CHALLENGES, resamples: int = RESAMPLES
) -> tuple[Array, Array]:
    """p and the difference seen in each of the challenges: by one truly better (1), equal (0) or
    worse (-1)."""
    draw, score, gain = KINDS[kind]
    pairs = [
        draw(np.random.default_rng([i, direction + 1]), direction * gain) for i in range(challenges)
    ]
    p = [p_value(method, *pair, score, True, resamples, i) for i, pair in enumerate(pairs)]
    return np.array(p), np.array([score_difference(*pair, score) for pair in pairs])


def promotions_on_few_rows(rows: int = 6) -> dict[str, int]:
    """By method, how many of CHALLENGES equal challengers are promoted on a handful of rows."""
    pairs = [draw_scores(np.random.default_rng([i, 9]), 0.0, rows) for i in range(CHALLENGES)]
    return {
        method: sum(
            p_value(method, *pair, mean, True, RESAMPLES, i) < LEVEL for i, pair in enumerate(pairs)
        )
        for method in METHODS
    }


def promotions_of_best_of_ten() -> dict[str, int]:
    """How many of CHALLENGES are promoted if the best of ten equal runs challenges an equal
    champion: the best on the valid split, or on the very test set that decides."""
    promoted = {"valid": 0, "test": 0}
    for i in range(CHALLENGES):
        rng = np.random.default_rng([i, 4])
        valid, (champion, *test) = rng.normal(size=(10, ROWS)).mean(1), rng.normal(size=(11, ROWS))
        best = {
            "valid": int(np.argmax(valid)),
            "test": int(np.argmax([own.mean() for own in test])),
        }
        for chosen, run in best.items():
            pair = [np.stack([own, np.ones(ROWS)], 1) for own in (champion, test[run])]
            promoted[chosen] += p_value(METHODS[0], *pair, mean, True, RESAMPLES, i) < LEVEL
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
        counts = ", ".join(f"{name} {int((own < LEVEL).sum())}" for name, own in p.items())
        print(
            f"  {method}, {kind}: {counts} (equal: chance explains "
            f"{binomial_limit(LEVEL, a.challenges)})"
        )
    print(f"equal ones on six rows, of {CHALLENGES}: {promotions_on_few_rows()}")
    print(f"the best of ten equal runs, of {CHALLENGES}, chosen by: {promotions_of_best_of_ten()}")


if __name__ == "__main__":
    main()
