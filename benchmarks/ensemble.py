"""BLEU of an ensemble of trained translators next to that of each, with paired tests.

    python -m benchmarks.ensemble RUN RUN [RUN ...] [--split test]

The runs are of params.yaml, with models, predictions and the same vocabulary. The ensemble averages
their probabilities at each step; its search has the settings of the first run. Prints BLEU with its
interval, the signature, and every pair's difference with its interval and its p, also corrected for
the number of pairs (Holm 1979)."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks import trained_runs
from pipeline.cli import translate
from pipeline.core import params, tables
from pipeline.core.errors import exit_with, refuse
from pipeline.predictions import translation as predictions
from pipeline.scoring import mt_metrics
from pipeline.scoring.significance import Array, Bootstrap, pairs
from pipeline.scoring.tasks import bleu_tokenizer, load_scoring, text_config
from pipeline.tasks import translation
from pipeline.text.tokens import round_trip

ENSEMBLE = "ensemble"


def read_hypotheses(root: Path, names: list[str], split: str) -> dict[str, list[str]]:
    """Read each run's best hypotheses for every row; UserError for a run of another task."""
    hypotheses = {}
    for name in names:
        run = params.run(root / "params.yaml", name)
        if run.task != "translation":
            raise refuse(name, f"a run of the task {run.task}", "a translator", "Name another run.")
        file = trained_runs.folder(root, name, "predict", "out") / f"hypotheses_{split}.parquet"
        if not file.exists():
            raise refuse(
                str(file),
                "no such file",
                "the run's predictions",
                f"Run `dvc repro predict@{name}`.",
            )
        best = tables.read(file, tables.HYPOTHESES).filter(pc.field("rank") == 0)
        hypotheses[name] = best.sort_by("row")["text"].to_pylist()
    return hypotheses


def tokens_folder(root: Path, name: str) -> Path:
    """The folder of the tokens of a run's corpus."""
    return trained_runs.folder(root, name, "evaluate", "tokens")


def references(root: Path, name: str, split: str) -> list[str]:
    """Read the reference translations of a run's corpus."""
    path = tokens_folder(root, name) / f"{split}.parquet"
    targets: list[str] = tables.read(path, tables.TOKENS_PAIR).sort_by("row")["target"].to_pylist()
    return targets


def normalize(root: Path, name: str, texts: list[str]) -> list[str]:
    """Normalize hypotheses or references as the evaluate stage does for the run's corpus."""
    file = root / "params.yaml"
    settings = text_config(file, params.run(file, name).corpus)
    return [str(text) for text in round_trip(pa.array(texts, pa.string()), settings).to_pylist()]


def ensemble(root: Path, names: list[str], encoded: Path) -> list[str]:
    """Translate every row of the encoded split by the ensemble of the runs."""
    session = translate.open_ensemble(root, names)[1]
    table = tables.read(encoded, translation.SCHEMA)
    hypotheses = predictions.search_rows(
        session, translation.prompts(table, session.device), table["row"].to_numpy()
    )
    best = hypotheses.filter(pc.field("rank") == 0).sort_by("row")
    return session.target_codec.decode_batch(best["ids"].to_pylist())


def main() -> None:
    a = trained_runs.parse(__doc__, split="test")
    file = a.root / "params.yaml"
    name = a.runs[0]
    hypotheses = read_hypotheses(a.root, a.runs, a.split)
    run = params.run(file, name)
    encoded = trained_runs.folder(a.root, name, "predict", "encoded") / f"{a.split}.parquet"
    hypotheses = {ENSEMBLE: ensemble(a.root, a.runs, encoded)} | hypotheses
    hypotheses = {system: normalize(a.root, name, texts) for system, texts in hypotheses.items()}
    expected = normalize(a.root, name, references(a.root, name, a.split))

    tokenizer, _ = bleu_tokenizer(file, run.corpus, tokens_folder(a.root, name))
    task = load_scoring(file, name, run, tokenizer)
    bootstrap = Bootstrap.of(params.evaluation(file), run.corpus, a.split)
    measure = mt_metrics.text_metrics(tokenizer)[task.main]

    # Sentence-level counts, whose resampled sums give the bootstrap (Koehn 2004).
    units: dict[str, Array] = {
        system: np.array(
            [measure.sums(*pair) for pair in zip(texts, expected, strict=True)], dtype=np.float64
        )
        for system, texts in hypotheses.items()
    }

    print(f"{task.main_name} on {a.split} of {run.corpus}, {measure.signature(bootstrap)}\n")
    for system, units_NK in units.items():
        score = bootstrap.estimate(units_NK, measure.score)
        print(f"{system:20} {score['score']:6.2f} [{score['low']:.2f}, {score['high']:.2f}]")
    print()
    for pair in pairs(units, measure.score, bootstrap):
        print(
            f"{pair.first} - {pair.second}: {pair.difference:+.2f} [{pair.low:+.2f}, "
            f"{pair.high:+.2f}], p {pair.p:.4f}, corrected {pair.corrected:.4f}"
        )


if __name__ == "__main__":
    exit_with(main)
