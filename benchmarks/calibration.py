"""Error rates and power of the tests between settings, and of tests on dependent rows.

    python -m benchmarks.calibration settings [--pairs 10000] [--others 2000] [--resampled 200]
    python -m benchmarks.calibration baselines [--pairs 10000]
    python -m benchmarks.calibration power [--pairs 1000]
    python -m benchmarks.calibration rows [--pairs 10000]
    python -m benchmarks.calibration trainings --params FILE --scores FOLDER --run NAME

`settings`: per cent of simulated pairs of equal settings that each test calls different at 0.05.
The chosen test gets the most pairs, and the slow ones, which resample, the fewest. Deviations over
seeds are those measured on toy_reviews (accuracy of bert_sentiment: 83.00, 89.90, 93.20, and of
transformer_classifier: 84.90, 85.85, 87.60) and toy_en_fr (BLEU of seq2seq: 44.99, 33.55, 28.00).

`baselines`: the same of the chosen test alone, for one training of a baseline, which draws no
random numbers, against the seeds of a setting with the same mean.

`power`: the share of pairs that are called different, by the true difference.

`rows`: two equal systems, on rows that share their sources as fra_eng's do. The share of promotions
by the gate and of "better than" in the report, by source (as they are) and by row (as they were).

`trainings`: real trainings of one setting, from FOLDER/NAME-SEED/test.parquet. Two groups of seeds
without a common one are drawn at random and compared, 1,000 times."""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks import gate, setting_tests
from benchmarks.setting_tests import SettingTest
from benchmarks.simulated_settings import (
    FIVE_EACH,
    FRA_ENG,
    SINGLE,
    SeedEffects,
    Simulation,
    block_numbers,
    classifiers,
    translators,
)
from pipeline.core import params, tables
from pipeline.promotion.one_sided_significance import p_value
from pipeline.scoring import mt_metrics
from pipeline.scoring.significance import Array, Bootstrap, Score, pairs, sum_by_block
from pipeline.scoring.tasks import load_scoring

LEVEL = 0.05
SHARED = 0.7  # of the variance of a row's score, by its source
RESAMPLES = 199
COMPARISONS = 1000  # of groups of real trainings

BERT_SENTIMENT = SeedEffects(5.2)
TRANSFORMER_CLASSIFIER = SeedEffects(1.4)
SEQ2SEQ = SeedEffects(8.7)
STEADY = SeedEffects(1.0)
FAILING = SeedEffects(1.4, failing=0.1, failed=50.0)
SAME = SeedEffects(0.0)


def equal_settings() -> list[Simulation]:
    """Pairs of settings with the same distribution of scores, or at least the same mean."""
    return [
        classifiers("accuracy, 5.2 and 5.2", BERT_SENTIMENT, BERT_SENTIMENT),
        classifiers("accuracy, 1.4 and 1.4", TRANSFORMER_CLASSIFIER, TRANSFORMER_CLASSIFIER),
        classifiers("accuracy, 5.2 and 1.4", BERT_SENTIMENT, TRANSFORMER_CLASSIFIER),
        classifiers("accuracy, 0 and 0", SAME, SAME),
        classifiers("accuracy, one seed in ten fails", FAILING, FAILING),
        translators("BLEU, 8.7 and 8.7, fra_eng's rows", SEQ2SEQ, SEQ2SEQ, FRA_ENG),
        translators("BLEU, 8.7 and 1, fra_eng's rows", SEQ2SEQ, STEADY, FRA_ENG),
        translators("BLEU, 1 and 1, fra_eng's rows", STEADY, STEADY, FRA_ENG),
        translators("BLEU, 0 and 0, fra_eng's rows", SAME, SAME, FRA_ENG),
        translators("BLEU, 0 and 0, five rows per source", SAME, SAME, FIVE_EACH),
        translators("BLEU, the same, by row", SAME, SAME, FIVE_EACH, by_row=True),
    ]


def baselines() -> list[Simulation]:
    """Pairs of a baseline, which has no seeds, and a setting with the same mean score."""
    return [
        classifiers(f"accuracy, a baseline and {effects.deviation}", SAME, effects)
        for effects in (SeedEffects(0.1), TRANSFORMER_CLASSIFIER, BERT_SENTIMENT)
    ]


def p_values(
    simulation: Simulation,
    test: SettingTest,
    count: int,
    seeds: int = 3,
    gain: float = 0.0,
    start: int = 0,
    first_is_baseline: bool = False,
) -> Array:
    """p of `count` simulated pairs; the second setting is better by `gain` points.

    A baseline has one training, and no seeds."""
    values = []
    for number in range(start, start + count):
        rng = np.random.default_rng([number, seeds])
        first_SUK, second_SUK = simulation.draw(rng, seeds, gain)
        if first_is_baseline:
            first_SUK = first_SUK[:1]
        values.append(test(first_SUK, second_SUK, simulation.score, rng))
    return np.array(values)


def measure_settings(
    count: int, others: int, resampled: int, seeds: int, kind: str
) -> Iterator[str]:
    """Lines of the table of error rates, of the pairs whose name contains `kind`."""
    counts = dict.fromkeys(setting_tests.CLOSED_FORM, others)
    counts |= {"chosen": count, "Behrens-Fisher": resampled}
    counts |= dict.fromkeys(setting_tests.RESAMPLING, resampled)
    tests = setting_tests.CLOSED_FORM | setting_tests.RESAMPLING
    yield f"| {seeds} against {seeds} seeds | " + " | ".join(tests) + " |"
    yield "| pairs | " + " | ".join(f"{counts[name]:,}" for name in tests) + " |"
    for simulation in equal_settings():
        if kind not in simulation.name:
            continue
        cells = [
            _share(p_values(simulation, test, counts[name], seeds)) for name, test in tests.items()
        ]
        yield f"| {simulation.name} | " + " | ".join(cells) + " |"


def measure_baselines(count: int, seeds: int) -> Iterator[str]:
    """Lines of the table of error rates against baselines."""
    yield f"| a baseline against {seeds} seeds, {count:,} pairs | chosen |"
    for simulation in baselines():
        p = p_values(simulation, setting_tests.chosen, count, seeds, first_is_baseline=True)
        yield f"| {simulation.name} | {_share(p)} |"


def measure_power(count: int) -> Iterator[str]:
    """Lines of the tables of power."""
    cases: list[tuple[Callable[[], Simulation], tuple[float, ...]]] = [
        (lambda: classifiers("accuracy, 1.4 and 1.4", *[TRANSFORMER_CLASSIFIER] * 2), (1, 2, 4, 6)),
        (lambda: classifiers("accuracy, 5.2 and 1.4", BERT_SENTIMENT, SAME), (2, 4, 6, 8)),
        (lambda: translators("BLEU, 1 and 1", STEADY, STEADY, FRA_ENG), (1, 2, 3, 5)),
    ]
    tests = {name: setting_tests.CLOSED_FORM[name] for name in ("chosen", "Satterthwaite")}
    tests["Behrens-Fisher"] = setting_tests.CLOSED_FORM["Behrens-Fisher"]
    for make, gains in cases:
        simulation = make()
        yield f"| {simulation.name}: seeds, test, level | " + " | ".join(map(str, gains)) + " |"
        for seeds in (3, 5, 10):
            for name, test in tests.items():
                if name == "Behrens-Fisher" and seeds > 3:
                    continue
                by_gain = [p_values(simulation, test, count, seeds, gain) for gain in gains]
                for level in (LEVEL, LEVEL / 10):
                    cells = [_share(values, level) for values in by_gain]
                    yield f"| {seeds}, {name}, {level} | " + " | ".join(cells) + " |"


def equal_systems(
    rng: np.random.Generator, sizes: dict[int, int], kind: str
) -> tuple[tuple[Array, Array], Score]:
    """sums_NK of two equal systems on the same rows, and their score."""
    if kind == "corpus BLEU":
        simulation = translators("", SAME, SAME, sizes, by_row=True)
        first_SNK, second_SNK = simulation.draw(rng, 1, 0.0)
        return (first_SNK[0], second_SNK[0]), mt_metrics.bleu

    block_N = block_numbers(sizes)
    common_N = rng.standard_normal(len(block_N))
    first, second = (
        common_N
        + np.sqrt(SHARED) * rng.standard_normal(block_N[-1] + 1)[block_N]
        + np.sqrt(1 - SHARED) * rng.standard_normal(len(block_N))
        for _ in range(2)
    )
    ones = np.ones_like(common_N)
    return (np.stack([first, ones], 1), np.stack([second, ones], 1)), gate.mean


def rows_error_rates(
    sizes: dict[int, int], kind: str, count: int, by_row: bool, start: int = 0
) -> dict[str, float]:
    """Shares of equal systems that the gate promotes, and that the report calls different."""
    block_N = block_numbers(sizes)
    found: dict[str, list[float]] = {}
    for number in range(start, start + count):
        systems, score = equal_systems(np.random.default_rng([number, 2]), sizes, kind)
        units = systems if by_row else tuple(sum_by_block(sums, block_N) for sums in systems)
        for method in gate.METHODS:
            p = p_value(method, units[0], units[1], score, True, RESAMPLES, number)
            found.setdefault(f"gate, {method}", []).append(p)
        [pair] = pairs(
            dict(zip("ab", units, strict=True)), score, Bootstrap(RESAMPLES, 0.95, number)
        )
        found.setdefault("report", []).append(pair.p)
    return {name: float(np.mean(np.array(values) < LEVEL)) for name, values in found.items()}


def measure_rows(count: int) -> Iterator[str]:
    """Lines of the table of error rates on dependent rows."""
    by_size = {"fra_eng": FRA_ENG, "five rows per source": FIVE_EACH, "one row per source": SINGLE}
    for kind in ("means", "corpus BLEU"):
        for name, sizes in by_size.items():
            for by_row in (False, True):
                unit = "row" if by_row else "source"
                rates = rows_error_rates(sizes, kind, count, by_row)
                text = ", ".join(f"{test} {100 * rate:.1f} %" for test, rate in rates.items())
                yield f"{name}, {kind}, by {unit}: {text}"


def measure_trainings(
    file: Path, scores: Path, run: str, seeds: int, comparisons: int
) -> Iterator[str]:
    """The share of comparisons of a setting with itself that call it different."""
    first_run = f"{run}-1"
    task = load_scoring(file, first_run, params.run(file, first_run))
    paths = sorted(scores.glob(f"{run}-*/test.parquet"))
    assert len(paths) >= 2 * seeds, f"{scores}: {len(paths)} trainings of {run}"
    table = [tables.read(path, task.schema) for path in paths]
    task, _ = task.select_scoring(table[0])
    units_SUK = np.stack([task.units(rows) for rows in table])
    scores_S = task.score(units_SUK.sum(1))
    yield (
        f"{run}: {len(paths)} trainings, mean {scores_S.mean():.3f}, deviation "
        f"{scores_S.std(ddof=1):.3f} {task.difference}"
    )

    tests = setting_tests.CLOSED_FORM | {"one training each": setting_tests.one_training_each}
    for name, test in tests.items():
        found = []
        for number in range(comparisons):
            rng = np.random.default_rng(number)
            drawn = rng.permutation(len(paths))[: 2 * seeds]
            groups = units_SUK[drawn[:seeds]], units_SUK[drawn[seeds:]]
            found.append(test(*groups, task.score, rng))
        yield f"  {name}: {_share(np.array(found))} % of {comparisons} called different"


def _share(values: Array, level: float = LEVEL) -> str:
    return f"{100 * np.mean(values < level):.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("mode", choices=["settings", "baselines", "power", "rows", "trainings"])
    parser.add_argument("--pairs", type=int, default=None, help="simulated pairs")
    parser.add_argument("--others", type=int, default=2000, help="pairs for the other tests")
    parser.add_argument("--resampled", type=int, default=200, help="pairs for the slow tests")
    parser.add_argument("--seeds", type=int, default=3, help="of each setting")
    parser.add_argument("--kind", default="", help="only pairs with this in their name")
    parser.add_argument("--params", type=Path)
    parser.add_argument("--scores", type=Path)
    parser.add_argument("--run")
    a = parser.parse_args()

    if a.mode == "settings":
        lines = measure_settings(a.pairs or 10_000, a.others, a.resampled, a.seeds, a.kind)
    elif a.mode == "baselines":
        lines = measure_baselines(a.pairs or 10_000, a.seeds)
    elif a.mode == "power":
        lines = measure_power(a.pairs or 1000)
    elif a.mode == "rows":
        lines = measure_rows(a.pairs or 10_000)
    else:
        lines = measure_trainings(a.params, a.scores, a.run, a.seeds, COMPARISONS)
    for line in lines:
        print(line, flush=True)


if __name__ == "__main__":
    main()
