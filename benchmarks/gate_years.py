"""A year of challenges on one test set: false promotions of equal challengers, and how soon a
better one is promoted, by how the gate's level is spent.

    python -m benchmarks.gate_years [--years 1000] [--pairs 2000]

Every night a new challenger meets the champion on the same rows (`gate_systems`), so that the
nights' tests are correlated: the champion's luck is the same each night. The first table tests with
the gate's own p-values. The curves use their normal approximation.
`tests/promotion/test_alpha_spending.py` asserts the main results."""

import argparse
import functools
import itertools
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from benchmarks.gate import binomial_limit
from benchmarks.gate_systems import KINDS, ROWS, Systems, draw, z_scores
from pipeline.promotion.one_sided_significance import p_value
from pipeline.scoring.significance import Array

NIGHTS = 365
LEVEL = 0.05
SHARE = LEVEL / NIGHTS
CRITICAL = NormalDist().inv_cdf(1 - SHARE)  # the z that a p-value below the share needs
WINDOW = 3  # nights within which a better challenger should be promoted
RESAMPLES = 50_000
GAINS = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0)  # BLEU
SIZES = (500, 1000, 2000, 4000, 8000)  # sentences
POWERS = (1.1, 1.5)  # of levels that decrease with the number of the night
ARRIVALS = (1, 180)  # nights of the year on which the better pipeline starts
STEPS = (60, 150, 240, 330)  # nights on which a pipeline gets better
STEP_GAIN = 3.0  # BLEU, each time

Levels = NDArray[np.float64]


def equal_year(kind: str, year: int, stream: int = 1) -> Systems:
    """A champion and a year of challengers that are as good; another `stream`, other outputs."""
    is_other_family = KINDS[kind]().resampled
    return draw([year, stream], kind, [0.0, *[float(is_other_family)] * NIGHTS])


def false_years(kind: str, years: int) -> int:
    """Years of equal challengers in which the gate promotes one."""
    return sum(_promotes(equal_year(kind, year), year) for year in range(years))


def _promotes(systems: Systems, seed: int) -> bool:
    """Return whether the gate promotes a challenger: its p-value is below its share of level."""
    # A smaller z than this has no such p-value.
    close_S = z_scores(systems.differences(0, slice(1, None))) > CRITICAL - 0.4
    return any(
        p_value(
            "approximate_randomisation",
            systems.units(0),
            systems.units(1 + int(challenger)),
            systems.pool.score,
            True,
            RESAMPLES,
            seed,
        )
        < SHARE
        for challenger in np.flatnonzero(close_S)
    )


@functools.cache
def equal_z(kind: str, years: int) -> Array:
    """z of NIGHTS equal challengers, for each year."""
    return np.stack(
        [z_scores(equal_year(kind, year).differences(0, slice(1, None))) for year in range(years)]
    )


def false_years_with_progress(years: int) -> tuple[int, float]:
    """Years of a pipeline that gets better four times in which a challenger that is no better than
    the champion is promoted; and the mean number of promotions."""
    pool = KINDS["BLEU"]()
    quality_S = np.concatenate([[0], np.searchsorted(STEPS, np.arange(NIGHTS), "right")])
    shares = [pool.share_for(STEP_GAIN * step) for step in range(len(STEPS) + 1)]

    false = 0
    promotions = 0
    for year in range(years):
        systems = draw([year, 5], "BLEU", [shares[quality] for quality in quality_S])
        champion = 0
        any_false = False
        while True:
            z_S = z_scores(systems.differences(champion, slice(champion + 1, None)))
            promoted = np.flatnonzero(z_S > CRITICAL)
            if not len(promoted):
                break
            challenger = champion + 1 + int(promoted[0])
            any_false |= bool(quality_S[challenger] <= quality_S[champion])
            champion = challenger
            promotions += 1
        false += any_false
    return false, promotions / years


def decreasing_levels(power: float) -> Levels:
    """Levels in proportion to night ** -power."""
    weight = np.arange(1, NIGHTS + 1) ** -power
    return LEVEL * weight / weight.sum()


def critical(levels: Levels) -> Levels:
    """The z that a p-value below each level needs."""
    normal = NormalDist()
    return np.array([normal.inv_cdf(1 - level) if level > 0 else np.inf for level in levels])


def weighted_levels(valid_z_S: Array) -> Levels:
    """Levels in proportion to the evidence of the validation split, until LEVEL is spent.

    The weight of a p-value v is 1 / (2 sqrt(v)), whose mean is 1 under the null hypothesis. Any
    weights keep the level, since they do not depend on the test set (Genovese et al. 2006)."""
    v = np.array([NormalDist().cdf(-z) for z in valid_z_S])
    levels = np.minimum(SHARE / (2 * np.sqrt(v)), LEVEL / 5)
    before = np.concatenate([[0.0], np.cumsum(levels)[:-1]])
    return np.clip(LEVEL - before, 0, levels)


def weighted_years(years: int) -> tuple[int, int]:
    """Years of equal challengers in which levels by validation promote one, and years in which
    they are spent before the last night."""
    false = 0
    spent = 0
    for year, z_S in enumerate(equal_z("BLEU", years)):
        valid = equal_year("BLEU", year, 9).differences(0, slice(1, None))
        levels = weighted_levels(z_scores(valid))
        false += bool((z_S > critical(levels)).any())
        spent += bool(levels[-1] == 0)
    return false, spent


def e_value(d_N: Array) -> float:
    """A bet against "the mean of d is at most 0": a mixture over constant bets of the product of
    1 + bet * d / max |d| (Waudby-Smith & Ramdas 2024).

    Its expectation is at most 1 if the rows are independent, so that it exceeds 1 / a with a
    chance of at most a (Ville 1939)."""
    scaled_N = d_N / np.abs(d_N).max()
    bets = np.linspace(0.01, 0.8, 40)
    log_wealth = np.log1p(bets[:, None] * scaled_N).sum(1)
    return float(np.exp(np.logaddexp.reduce(log_wealth) - np.log(len(bets))))


def thresholds(years: int) -> dict[str, Levels]:
    """By rule, the z that each of the WINDOW nights needs."""
    highest = equal_z("BLEU", years).max(1)
    rules = {
        "level for each challenge, no spending": critical(np.full(WINDOW, LEVEL)),
        "equal shares (the gate)": np.full(WINDOW, CRITICAL),
        "if the correlation were known": np.full(WINDOW, np.quantile(highest, 1 - LEVEL)),
    }
    for power, arrival in itertools.product(POWERS, ARRIVALS):
        levels = decreasing_levels(power)[arrival - 1 : arrival - 1 + WINDOW]
        rules[f"night ** -{power}, from night {arrival}"] = critical(levels)
    return rules


def promoted(gain: float, pairs: int, rules: dict[str, Levels]) -> dict[str, float]:
    """Share of `pairs` in which a pipeline that is better by `gain` BLEU is promoted within WINDOW
    nights, by rule. A pair is a champion with three challengers of that pipeline."""
    shares = [0.0, *[KINDS["BLEU"]().share_for(gain)] * WINDOW]
    hits: dict[str, int] = {}
    for pair in range(pairs):
        d_SN = draw([pair, 2], "BLEU", shares).differences(0, slice(1, None))
        z_S = z_scores(d_SN)
        outcome = {name: bool((z_S > threshold).any()) for name, threshold in rules.items()}

        # The same pair on as many validation sentences, from the first night of the year.
        valid_z_S = z_scores(draw([pair, 6], "BLEU", shares).differences(0, slice(1, None)))
        weighted = z_S > critical(weighted_levels(valid_z_S))
        outcome["weighted by validation, from night 1"] = bool(weighted.any())

        # Evidence for the recipe: the mean of its challengers so far.
        means_SN = np.cumsum(d_SN, 0) / np.arange(1, WINDOW + 1)[:, None]
        outcome["mean of the recipe's nights"] = bool((z_scores(means_SN) > CRITICAL).any())

        # e-values; they multiply over nights only if each night has rows of its own.
        outcome["e-value of each night"] = any(e_value(d_N) >= 1 / SHARE for d_N in d_SN)
        fresh = [
            draw([pair, 7, night], "BLEU", shares[:2]).differences(0, slice(1, None))[0]
            for night in range(WINDOW)
        ]
        wealth = np.cumprod([e_value(d_N) for d_N in fresh])
        outcome["e-values, new sentences each night"] = bool((wealth >= 1 / SHARE).any())
        for name, hit in outcome.items():
            hits[name] = hits.get(name, 0) + hit
    return {name: count / pairs for name, count in hits.items()}


def gain_for(rows: int, pairs: int, share: float = 0.9) -> float:
    """The gain in BLEU that equal shares promote within WINDOW nights in `share` of the cases."""
    gains = np.arange(0.25, 8, 0.25)
    low = 0
    high = len(gains) - 1
    while low < high:
        middle = (low + high) // 2
        shares = [0.0, *[KINDS["BLEU"]().share_for(float(gains[middle]))] * WINDOW]
        hits = [
            z_scores(draw([pair, 3], "BLEU", shares, rows).differences(0, slice(1, None))).max()
            > CRITICAL
            for pair in range(pairs)
        ]
        if np.mean(hits) >= share:
            high = middle
        else:
            low = middle + 1
    return float(gains[low])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--years", type=int, default=1000)
    parser.add_argument("--pairs", type=int, default=2000)
    a = parser.parse_args()

    print(
        f"years of {a.years} with a false promotion: {NIGHTS} equal challengers, {ROWS} rows, "
        f"level {LEVEL} (at most {LEVEL * a.years:.0f} expected, by chance up to "
        f"{binomial_limit(LEVEL, a.years)})"
    )
    for kind, pool in KINDS.items():
        z = equal_z(kind, a.years)
        counts = {"equal shares (the gate)": false_years(kind, a.years)}
        counts["level for each challenge"] = int((z.max(1) > critical(np.array([LEVEL]))).sum())
        for power in POWERS:
            above = (z > critical(decreasing_levels(power))).any(1)
            counts[f"night ** -{power}"] = int(above.sum())
        alone, paired = pool().standard_errors()
        print(
            f"  {kind} {pool().means()[0]:.2f} (standard error {alone:.2f}, of a difference "
            f"{paired:.2f}): " + ", ".join(f"{name} {count}" for name, count in counts.items())
        )
    false, spent = weighted_years(a.years)
    print(f"  BLEU, weighted by validation: {false}, and {spent} with nothing left at the end")
    false, promotions = false_years_with_progress(a.years)
    print(
        f"  BLEU, better by {STEP_GAIN} on nights {STEPS}: equal shares {false} "
        f"({promotions:.2f} promotions a year)"
    )

    print(f"\npromoted within {WINDOW} nights, by the gain in BLEU on {ROWS} sentences")
    rules = thresholds(a.years)
    needed = ", ".join(f"{name} {levels[0]:.2f}" for name, levels in rules.items())
    print(f"z needed on the first night: {needed}")
    curves = [promoted(gain, a.pairs, rules) for gain in GAINS]
    print(f"{'':40}" + "".join(f"{gain:7.1f}" for gain in GAINS))
    for name in curves[0]:
        print(f"{name:40}" + "".join(f"{curve[name]:7.3f}" for curve in curves))

    print(f"\ngain in BLEU promoted within {WINDOW} nights in 90 % of cases, by sentences")
    for rows in SIZES:
        print(f"  {rows:5} {gain_for(rows, a.pairs // 4):.2f}")


if __name__ == "__main__":
    main()
