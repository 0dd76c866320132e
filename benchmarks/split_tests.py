"""Tests of settings on a split that the report does not test, over seeds and sentences.

    python -m benchmarks.split_tests SPLIT SETTING SETTING...

The settings, of one task and corpus of `params.yaml`, are evaluated. The tests are those of the
report, with Holm's correction for the pairs given here."""

import argparse
from pathlib import Path

import numpy as np

from pipeline.core import config, params, tables
from pipeline.core.errors import exit_with
from pipeline.report.results import LEVEL
from pipeline.scoring import seeds
from pipeline.scoring.tasks import load_scoring


def tests(root: Path, split: str, settings: list[str]) -> list[seeds.SettingPair]:
    """Test every pair of the settings on the scores of the split in the project `root`."""
    file = root / "params.yaml"
    runs = {name: params.run(file, name) for name in config.section(file, "runs")}
    compared = []
    for setting in settings:
        names = [name for name, run in runs.items() if run.setting == setting]
        task = load_scoring(file, names[0], runs[names[0]])
        scores = [
            tables.read(root / f"data/scores/{name}/{split}.parquet", task.schema) for name in names
        ]
        is_fixed = not any(params.is_trained(file, name) for name in names)
        units = np.stack([task.units(table) for table in scores])
        compared.append(seeds.Setting(setting, units, is_fixed))
    confidence = params.evaluation(file).confidence
    return seeds.compare_all(compared, task.score, confidence, LEVEL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("split")
    parser.add_argument("settings", nargs="+")
    arguments = parser.parse_args()
    print("| pair of settings | difference | interval | p, corrected |\n|---|---:|---:|---:|")
    for pair in tests(Path(), arguments.split, arguments.settings):
        interval = f"{pair.low:+.2f} to {pair.high:+.2f}"
        names = f"`{pair.first}` – `{pair.second}`"
        p = "< 0.001" if pair.corrected < 0.001 else f"{pair.corrected:.3f}"
        print(f"| {names} | {pair.difference:+.2f} | {interval} | {p} |")


if __name__ == "__main__":
    exit_with(main)
