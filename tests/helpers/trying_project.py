"""A project with a small trained run for every command that answers texts."""

import shutil
from pathlib import Path

import default_params
import stage_runs
import trained_project

ROOT = Path(__file__).resolve().parents[2]
RUNS = ("seq2seq", "attention", "rnn", "bidirectional", "bert", "skip_gram", "mlp")


def train(root: Path) -> None:
    """Train the runs in the folder `root`, and evaluate the translators."""
    content = trained_project.small(RUNS)
    default_params.write(root, content)
    shutil.copy(ROOT / "dvc.yaml", root)
    (root / "presets").mkdir()
    for corpus in content["corpora"]:
        for stage in ("download", "tokenize", "vocab", "encode"):
            stage_runs.run(root, stage, corpus)
    stage_runs.run(root, "scratch")
    for run in RUNS:
        stage_runs.run(root, "train", run)
    for run in ("seq2seq", "attention"):
        stage_runs.run(root, "predict", run)
        stage_runs.run(root, "evaluate", run)
    stage_runs.run(root, "predict", "skip_gram")
