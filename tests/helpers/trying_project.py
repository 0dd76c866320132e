"""A project with a small trained run for every command that answers texts."""

import shutil
from pathlib import Path
from typing import Any

import default_params
import stage_runs

ROOT = Path(__file__).resolve().parents[2]
RUNS = ("seq2seq", "attention", "rnn", "bidirectional", "bert", "skip_gram", "mlp")
SIZES = {"train": 200, "valid": 40, "test": 40, "test_long": 10}


def small() -> dict[str, Any]:
    """A run of every command, all as small as they can be."""
    content = default_params.load()
    content["evaluation"]["bootstrap"], content["compute"]["device"] = 50, "cpu"
    content["runs"] = {name: content["runs"][name] for name in RUNS}
    content["runs"]["bert"]["corpus"] = "toy_story"
    content["runs"]["bert"]["model"] |= {"heads": 2}
    for run in content["runs"].values():
        run["training"]["max_epochs"] = 1
        sizes = {"embedding", "hidden", "width", "feed_forward", "dimension"} & set(run["model"])
        run["model"] |= dict.fromkeys(sizes, 16)
        if run["search"] is not None:
            run["search"]["max_length"] = 8
    content["corpora"] = {
        name: content["corpora"][name] for name in ("toy_en_fr", "toy_reviews", "toy_story")
    }
    for corpus in content["corpora"].values():
        sizes = corpus["source"]["builtin"]["sizes"]
        corpus["source"]["builtin"]["sizes"] = {split: SIZES[split] for split in sizes}
    return content


def train(root: Path) -> None:
    """Train the runs in the folder `root`, and evaluate the translators."""
    default_params.write(root, small())
    shutil.copy(ROOT / "dvc.yaml", root)
    (root / "presets").mkdir()
    for corpus in small()["corpora"]:
        for stage in ("download", "tokenize", "vocab", "encode"):
            stage_runs.run(root, stage, corpus)
    stage_runs.run(root, "scratch")
    for run in RUNS:
        stage_runs.run(root, "train", run)
    for run in ("seq2seq", "attention"):
        stage_runs.run(root, "predict", run)
        stage_runs.run(root, "evaluate", run)
    stage_runs.run(root, "predict", "skip_gram")
