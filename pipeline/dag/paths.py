"""Paths of the DAG out of `dvc.yaml` and `dvc.lock`, so that no path is written twice."""

import re
import shlex
from pathlib import Path
from typing import Any

from pipeline.core import config, params, stage_arguments
from pipeline.core.errors import refuse


def stage_names(root: Path) -> set[str]:
    """Names of the stages that `dvc.yaml` makes of params.yaml: `train@lstm`, `report`, ..."""
    stages, names = config.read(root / "dvc.yaml")["stages"], set()
    for stage, block in stages.items():
        each = re.fullmatch(r"\$\{(\w+)\}", str(block.get("foreach", "")))
        names |= (
            {f"{stage}@{key}" for key in config.section(root / "params.yaml", each[1])}
            if each
            else {stage}
        )
    return names


def check_names(root: Path) -> None:
    """Raise UserError, before anything runs, for a name in params.yaml that cannot be one of a
    stage and a folder."""
    matches = (
        re.fullmatch(r"\$\{(\w+)\}", str(stage.get("foreach", ""))) for stage in stage_blocks(root)
    )
    for section in dict.fromkeys(match[1] for match in matches if match):
        for name in config.section(root / "params.yaml", section):
            params.check_name(section, name)


def stage_blocks(root: Path) -> list[dict[str, Any]]:
    """Stages of `dvc.yaml` as written there; other values than mappings are left out, as DVC
    reports them."""
    blocks = config.read(root / "dvc.yaml").get("stages")
    return (
        [stage for stage in blocks.values() if isinstance(stage, dict)]
        if isinstance(blocks, dict)
        else []
    )


def option_path(root: Path, stage: str, key: str, block: dict[str, Any], name: str) -> Path:
    """Absolute path that the command of `stage` for `key` has as its option `--name`."""
    template = config.read(root / "dvc.yaml")["stages"][stage]
    words = shlex.split(template["do"]["cmd"])
    path = words[words.index(f"--{name}") + 1]
    section = template["foreach"].strip("${}")
    return root / stage_arguments.fill(path, stage_arguments.placeholders(section, key, block))


def abandoned_outputs(root: Path) -> list[Path]:
    """Outputs on disk of stages that DVC once ran and that the DAG no longer has."""
    if not (root / "dvc.lock").exists():
        return []
    stages, alive = (
        config.read(root / "dvc.lock", strict=False).get("stages", {}),
        stage_names(root),
    )
    outs = {
        name: [root / out["path"] for out in stage.get("outs", [])]
        for name, stage in stages.items()
    }
    kept = {path for name in alive for path in outs.get(name, [])}
    gone = [
        path
        for name in sorted(set(outs) - alive)
        for path in outs[name]
        if path not in kept and path.exists()
    ]
    for path in gone:
        if not path.resolve().is_relative_to(root.resolve()):
            raise refuse(
                str(path), "a place outside of the project", "one inside", "Mend dvc.lock."
            )
    return gone
