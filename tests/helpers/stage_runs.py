"""A stage as DVC runs it: the command of `dvc.yaml`, with DVC_STAGE in its environment, in this
process."""

import importlib
import json
import os
import shlex
from collections.abc import Iterable
from pathlib import Path

import fast_yaml
import pytest

ROOT = Path(__file__).resolve().parents[2]
# a section `compute`
HERE = {"device": "cpu", "slots": 1, "processes": 1, "workers": 1, "cluster": None}


def words(stage: str, key: str = "") -> list[str]:
    """The stage's module and arguments, for the block `key` of params.yaml; without one DVC_STAGE
    has to name it."""
    block = fast_yaml.load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"][stage]
    python, flag, *found = shlex.split(block.get("do", block)["cmd"])
    assert (python, flag, found[0]) == ("python", "-m", f"stages.{stage}")
    return [found[0], *([key] if key else []), *found[1:]]


def run(root: Path, stage: str, key: str = "") -> None:
    """Run the stage for the block `key` in the folder `root`, without tracking; what it raises
    comes out."""
    module, *arguments = words(stage)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("SEQLINE_TRACKING", "off")
        patch.setenv("DVC_STAGE", f"{stage}@{key}" if key else stage)
        patch.setattr("sys.argv", [module, *arguments])
        importlib.import_module(module).main()


def environment() -> dict[str, str]:
    """The environment of a stage as a process of its own: this source, no tracking, no launcher's
    variables."""
    kept = {key: value for key, value in os.environ.items() if key not in ("RANK", "WORLD_SIZE")}
    return kept | {"PYTHONPATH": str(ROOT), "SEQLINE_TRACKING": "off", "OMP_NUM_THREADS": "1"}


def outs(root: Path, stage: str, key: str = "") -> list[Path]:
    """What the stage writes for the block `key`, in `root`, that DVC removes before a run."""
    block = fast_yaml.load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"][stage]
    block = block.get("do", block)
    named = [item for kind in ("outs", "metrics") for item in block.get(kind, [])]
    named = [item if isinstance(item, dict) else {item: {}} for item in named]
    paths = [path for item in named for path, options in item.items() if "persist" not in options]
    return [root / path.replace("${key}", key) for path in paths]


def run_dag(root: Path, corpora: Iterable[str], runs: Iterable[str]) -> None:
    """All stages of the corpora and of the runs, in their order, and the report."""
    for corpus in corpora:
        for stage in ("download", "tokenize", "vocab", "encode"):
            run(root, stage, corpus)
    run(root, "scratch")
    for name in runs:
        for stage in ("train", "predict", "evaluate"):
            run(root, stage, name)
    run(root, "report")


def run_evaluate(root: Path, name: str, corpus: str) -> dict[str, object]:
    """The stage as dvc.yaml has it, in this process."""
    run(root, "evaluate", name)
    return json.loads((root / f"reports/metrics/{name}.json").read_text())
