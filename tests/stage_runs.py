"""A stage as DVC runs it: the command of `dvc.yaml`, filled in from the folder's own params.yaml, in this process."""

import importlib
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
HERE = {"device": "cpu", "slots": 1, "processes": 1, "workers": 1, "cluster": None}  # a section `compute`


def words(root: Path, stage: str, key: str = "") -> list[str]:
    """The stage's module and arguments for the block `key` of params.yaml in `root`."""
    block = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"][stage]
    command = block.get("do", block)["cmd"].replace("${key}", key)
    if "foreach" in block:
        content = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
        item = content[block["foreach"].strip("${}")][key]
        command = re.sub(r"\$\{item\.([\w.]+)\}", lambda found: str(_at(item, found[1])), command)
    python, flag, *found = shlex.split(command)
    assert (python, flag, found[0]) == ("python", "-m", f"stages.{stage}")
    return found


def run(root: Path, stage: str, key: str = "") -> None:
    """Run the stage for the block `key` in the folder `root`, without tracking; what it raises comes out."""
    module, *arguments = words(root, stage, key)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("SEQLINE_TRACKING", "off")
        patch.setattr("sys.argv", [module, *arguments])
        importlib.import_module(module).main()


def outs(root: Path, stage: str, key: str = "") -> list[Path]:
    """What the stage writes for the block `key`, in `root`; DVC removes it before a run."""
    block = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"][stage]
    block = block.get("do", block)
    named = [item for kind in ("outs", "metrics", "plots") for item in block.get(kind, [])]
    paths = [item if isinstance(item, str) else next(iter(item)) for item in named]
    return [root / path.replace("${key}", key) for path in paths]


def _at(item: Any, dotted: str) -> Any:
    for name in dotted.split("."):
        item = item[name]
    return item
