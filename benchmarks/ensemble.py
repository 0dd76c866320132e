"""What several trained translators are worth as one: BLEU of their ensemble beside that of each,
with paired tests.

    python -m benchmarks.ensemble RUN RUN [RUN ...] [--split test]

The runs are of params.yaml, were trained and have predicted, and read and write the same
vocabulary; the ensemble, the mean of their probabilities at each step, is searched as the first one
is. Prints BLEU with its interval, the signature, and every pair's difference with its interval and
its p, also corrected for the number of pairs (Holm 1979)."""

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.cli import infer
from pipeline.core import params, tables
from pipeline.core.errors import exit_with, refuse
from pipeline.dag import paths
from pipeline.predictions import translation as predictions
from pipeline.scoring import mt_metrics
from pipeline.scoring.significance import Array, Bootstrap, pairs
from pipeline.scoring.tasks import load_scoring, text_config, bleu_tokenizer
from pipeline.tasks import translation
from pipeline.text.tokens import round_trip

ENSEMBLE = "ensemble"


def stage_path(root: Path, stage: str, name: str, run: params.Run, option: str) -> Path:
    """A folder that the DAG gives to a run's stage."""
    return paths.option_path(root, stage, name, {"corpus": run.corpus}, option)


def read_hypotheses(root: Path, names: list[str], split: str) -> dict[str, list[str]]:
    """What each run's own search has answered to every row; UserError for what is no pair's
    answer."""
    found = {}
    for name in names:
        run = params.run(root / "params.yaml", name)
        if run.task != "translation":
            raise refuse(name, f"a run of the task {run.task}", "a translator", "Name another run.")
        file = stage_path(root, "predict", name, run, "out") / f"hypotheses_{split}.parquet"
        if not file.exists():
            raise refuse(
                str(file),
                "no such file",
                "the run's predictions",
                f"Run `dvc repro predict@{name}`.",
            )
        best = tables.read(file, tables.HYPOTHESES).filter(pc.field("rank") == 0)
        found[name] = best.sort_by("row")["text"].to_pylist()
    return found


def tokens_folder(root: Path, name: str) -> Path:
    """The folder of the tokens of a run's corpus."""
    return stage_path(root, "evaluate", name, params.run(root / "params.yaml", name), "tokens")


def references(root: Path, name: str, split: str) -> list[str]:
    """What the rows of a run's corpus should be translated to."""
    path = tokens_folder(root, name) / f"{split}.parquet"
    targets: list[str] = tables.read(path, tables.TOKENS_PAIR).sort_by("row")["target"].to_pylist()
    return targets


def normalize(root: Path, name: str, texts: list[str]) -> list[str]:
    """Normalize answers or references by the settings of the run's corpus, as the evaluate stage
    does."""
    file = root / "params.yaml"
    settings = text_config(file, params.run(file, name).corpus)
    return [str(text) for text in round_trip(pa.array(texts, pa.string()), settings).to_pylist()]


def ensemble(root: Path, names: list[str], encoded: Path) -> list[str]:
    """What the runs together answer to every row of the encoded split."""
    session, table = infer.together(root, names), tables.read(encoded, translation.SCHEMA)
    answers = predictions.search_rows(
        session, translation.prompts(table, session.device), table["row"].to_numpy()
    )
    best = answers.filter(pc.field("rank") == 0).sort_by("row")
    return session.say.decode_batch(best["ids"].to_pylist())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument("--root", type=Path, default=Path("."))
    parser.add_argument("--split", default="test")
    a = parser.parse_args()
    if len(a.runs) < 2:
        raise refuse("RUN", a.runs[0], "two runs at least")
    file, name = a.root / "params.yaml", a.runs[0]
    answers = read_hypotheses(a.root, a.runs, a.split)
    run = params.run(file, name)
    encoded = stage_path(a.root, "predict", name, run, "encoded") / f"{a.split}.parquet"
    answers = {ENSEMBLE: ensemble(a.root, a.runs, encoded)} | answers
    answers = {system: normalize(a.root, name, texts) for system, texts in answers.items()}
    expected = normalize(a.root, name, references(a.root, name, a.split))
    tokenizer, _ = bleu_tokenizer(file, run.corpus, tokens_folder(a.root, name))
    task, bootstrap = (
        load_scoring(file, name, run, tokenizer),
        Bootstrap.of(params.evaluation(file), run.corpus, a.split),
    )
    measure = mt_metrics.text_metrics(tokenizer)[task.main]
    units: dict[str, Array] = {
        system: np.array(
            [measure.sums(*pair) for pair in zip(texts, expected, strict=True)], dtype=np.float64
        )
        for system, texts in answers.items()
    }
    print(f"{task.main_name} on {a.split} of {run.corpus}, {measure.signature(bootstrap)}\n")
    for who, units_NK in units.items():
        found = bootstrap.estimate(units_NK, measure.score)
        print(f"{who:20} {found['score']:6.2f} [{found['low']:.2f}, {found['high']:.2f}]")
    print()
    for pair in pairs(units, measure.score, bootstrap):
        print(
            (
                f"{pair.first} - {pair.second}: {pair.difference:+.2f} [{pair.low:+.2f}, "
                f"{pair.high:+.2f}]"
            ),
            end="",
        )
        print(f", p {pair.p:.4f}, corrected {pair.corrected:.4f}")


if __name__ == "__main__":
    exit_with(main)
