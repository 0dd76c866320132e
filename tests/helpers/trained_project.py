"""A project with a small trained run of every task on texts, whose whole DAG has run in this
process."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import default_params
import stage_runs

ROOT = Path(__file__).resolve().parents[2]
RUNS = ("seq2seq", "mlp", "rnn", "bidirectional", "skip_gram", "bert")
CORPORA = ("toy_en_fr", "toy_reviews", "toy_story")
SIZES = {"train": 200, "valid": 40, "test": 40, "test_long": 10}


def small(runs: tuple[str, ...] = RUNS) -> dict[str, Any]:
    """The sections of params.yaml with these runs, all as small as they can be."""
    content = default_params.load()
    content["evaluation"]["bootstrap"], content["compute"]["device"] = 50, "cpu"
    content["runs"] = {name: content["runs"][name] for name in runs}
    if "bert" in runs:
        content["runs"]["bert"]["corpus"] = "toy_story"
        content["runs"]["bert"]["model"] |= {"heads": 2}
    content["corpora"] = {name: content["corpora"][name] for name in CORPORA}
    default_params.shrink(content, SIZES)
    for run in content["runs"].values():
        if run["search"] is not None:
            run["search"]["max_length"] = 8
    return content


def evaluate(root: Path, *runs: str) -> None:
    """Train, predict and evaluate the runs, and commit to DVC what the DAG then holds, as `dvc
    repro` would."""
    for run in runs:
        for stage in ("train", "predict", "evaluate"):
            stage_runs.run(root, stage, run)
    stage_runs.run(root, "report")
    subprocess.run(
        [sys.executable, "-m", "dvc", "commit", "--force", "--quiet"], cwd=root, check=True
    )


def build(root: Path, content: dict[str, Any]) -> Path:
    """Make the folder `root` a project with these sections, and run its DAG."""
    root.mkdir()
    for name in ("pipeline", "seqline", "stages", "presets", ".dvc"):
        shutil.copytree(
            ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "cache", "tmp")
        )
    for name in ("dvc.yaml", ".gitignore", ".dvcignore"):
        shutil.copy(ROOT / name, root)
    default_params.write(root, content)
    for folder in ("data", "reports"):
        (root / folder).mkdir()
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    for corpus in content["corpora"]:
        for stage in ("download", "tokenize", "vocab", "encode"):
            stage_runs.run(root, stage, corpus)
    stage_runs.run(root, "scratch")
    evaluate(root, *content["runs"])
    return root
