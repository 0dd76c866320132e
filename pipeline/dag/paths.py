"""Paths of the DAG, read from `dvc.yaml` and `dvc.lock`: no path is repeated in Python."""

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.core import config, params, stage_arguments
from pipeline.core.errors import refuse


def stage_names(root: Path) -> set[str]:
    """Return the stages of `dvc.yaml`, each `foreach` expanded: `train@lstm`, `report`, ..."""
    names: set[str] = set()
    for stage, block in config.read(root / "dvc.yaml")["stages"].items():
        section = _foreach_section(block)
        if section is None:
            names.add(stage)
        else:
            names |= {f"{stage}@{key}" for key in config.section(root / "params.yaml", section)}
    return names


def _foreach_section(block: Mapping[str, Any]) -> str | None:
    """Return `runs` for a stage with `foreach: ${runs}`; None for a stage without one."""
    match = re.fullmatch(r"\$\{(\w+)\}", str(block.get("foreach", "")))
    return match[1] if match else None


def check_names(root: Path) -> None:
    """Raise UserError for a name in params.yaml that cannot be one of a stage and a folder."""
    sections = [_foreach_section(block) for block in stage_blocks(root)]
    for section in dict.fromkeys(filter(None, sections)):
        for name in config.section(root / "params.yaml", section):
            params.check_name(section, name)


def stage_blocks(root: Path) -> list[dict[str, Any]]:
    """Return the stages as `dvc.yaml` has them, without values of wrong types, which DVC
    reports."""
    blocks = config.read(root / "dvc.yaml").get("stages")
    if not isinstance(blocks, dict):
        return []
    return [block for block in blocks.values() if isinstance(block, dict)]


def option_path(root: Path, stage: str, key: str, block: dict[str, Any], name: str) -> Path:
    """Return the absolute path that the command of `stage` for `key` has as its option `--name`."""
    template = config.read(root / "dvc.yaml")["stages"][stage]
    section = template["foreach"].strip("${}")  # `runs` of `${runs}`
    names = stage_arguments.placeholders(section, key, block)
    return root / stage_arguments.fill(_option(stage, template.get("do"), name), names)


class RunPaths:
    """Paths of the outputs of runs in the commands of `dvc.yaml`, which is read once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._stages = config.read(root / "dvc.yaml")["stages"]

    def option(self, stage: str, run: str, name: str) -> Path:
        """Path that the command of `stage` for the run has as its option `--name`."""
        template = _option(stage, self._stage(stage).get("do"), name)
        return self._root / stage_arguments.fill(template, {"run": run})

    def shared(self, stage: str, name: str) -> Path:
        """Path that the command of `stage`, one for all runs, has as its option `--name`."""
        return self._root / _option(stage, self._stage(stage), name)

    def _stage(self, name: str) -> dict[str, Any]:
        if name not in self._stages:
            raise refuse("dvc.yaml", f"no stage {name}", "the DAG of this project", "Restore it.")
        stage: dict[str, Any] = self._stages[name]
        return stage


def _option(stage: str, block: Any, name: str) -> str:
    """The word after `--name` in the command of the stage's block; UserError without one."""
    command = block.get("cmd") if isinstance(block, dict) else None
    words = shlex.split(command) if isinstance(command, str) else []
    if f"--{name}" not in words[:-1]:
        expected = f"a command with --{name} PATH"
        raise refuse(f"dvc.yaml, stage {stage}", repr(command), expected, "Restore it.")
    return words[words.index(f"--{name}") + 1]


def abandoned_outputs(root: Path) -> list[Path]:
    """Return the outputs on disk of stages that DVC once ran and that the DAG no longer has.

    UserError for an output outside of the project: `seqline prune` would remove it."""
    if not (root / "dvc.lock").exists():
        return []

    # dvc.lock keeps the stages that the DAG once had.
    stages = config.read(root / "dvc.lock", strict=False).get("stages", {})
    current = stage_names(root)
    outs = {
        name: [root / out["path"] for out in stage.get("outs", [])]
        for name, stage in stages.items()
    }
    used = {path for name in current for path in outs.get(name, [])}
    abandoned = [
        path
        for name in sorted(set(outs) - current)
        for path in outs[name]
        if path not in used and path.exists()
    ]
    for path in abandoned:
        if not path.resolve().is_relative_to(root.resolve()):
            raise refuse(str(path), "a place outside of the project", "one inside", "Fix dvc.lock.")
    return abandoned
