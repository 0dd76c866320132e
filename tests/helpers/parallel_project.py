"""Two small runs, ready to be trained by one process or several."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import default_params
import pytest
import stage_runs

RUNS = {"seq2seq": "toy_en_fr", "rnn": "toy_story"}


def params() -> dict[str, Any]:
    """Two small default runs of which an update reads four batches, dropout and all."""
    content = default_params.load()
    content["corpora"] = {name: content["corpora"][name] for name in RUNS.values()}
    for block in content["corpora"].values():
        block["source"]["builtin"]["sizes"] = {"train": 400, "valid": 60, "test": 60}
        block["read"] = block["read"] and {
            "files": {s: block["read"]["files"][s] for s in ("train", "valid", "test")}
        }
    content["compute"] |= {"device": "cpu", "processes": 2}
    content["runs"] = {name: content["runs"][name] for name in RUNS}
    for run in content["runs"].values():
        run["model"] |= {"embedding": 16, "hidden": 16, "dropout": 0.2}
        run["training"] |= {"max_epochs": 3, "accumulate": 4}
    content["runs"]["seq2seq"]["objective"] |= {"batch_tokens": 100}
    content["runs"]["rnn"]["objective"] |= {"batch_size": 4, "steps": 16, "sampling": "random"}
    return content


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both corpora ready to be trained on."""
    root = tmp_path_factory.mktemp("parallel")
    write(root, params())
    stage_runs.run(root, "scratch")
    for corpus in RUNS.values():
        for stage in ("download", "tokenize", "vocab", "encode"):
            stage_runs.run(root, stage, corpus)
    return root


def write(root: Path, content: dict[str, Any]) -> None:
    default_params.write(root, content)


def command(root: Path, name: str, out: str) -> list[str]:
    """The train stage as DVC runs it, with another place for the model."""
    return [sys.executable, "-m", *stage_runs.words("train", name)[:-1], out]


def train(root: Path, name: str, out: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(root, name, out),
        cwd=root,
        env=stage_runs.environment(),
        capture_output=True,
        text=True,
        timeout=400,
    )
