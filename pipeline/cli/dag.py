"""What the commands know of the DAG: `dvc.yaml` and `dvc.lock`, read as they lie, so that no path is written twice."""

import re
import shlex
from pathlib import Path
from typing import Any

from pipeline import config, params, stage_arguments
from pipeline.errors import refuse


def concrete(root: Path) -> set[str]:
    """Names of the stages that `dvc.yaml` makes of params.yaml: `train@lstm`, `report`, ..."""
    stages, names = config.read(root / "dvc.yaml")["stages"], set()
    for stage, block in stages.items():
        each = re.fullmatch(r"\$\{(\w+)\}", str(block.get("foreach", "")))
        names |= {f"{stage}@{key}" for key in config.section(root / "params.yaml", each[1])} if each else {stage}
    return names


def check_names(root: Path) -> None:
    """Refuse a name in params.yaml that `dvc.yaml` makes a stage and a folder of: UserError, before anything runs."""
    stages = config.read(root / "dvc.yaml").get("stages")
    for stage in stages.values() if isinstance(stages, dict) else ():  # DVC tells what else is wrong with the file
        each = re.fullmatch(r"\$\{(\w+)\}", str(stage.get("foreach", ""))) if isinstance(stage, dict) else None
        if each:
            for name in config.section(root / "params.yaml", each[1]):
                params.check_name(each[1], name)


def option(root: Path, stage: str, key: str, block: dict[str, Any], name: str) -> Path:
    """What the command of `stage` for `key` is given as `--name`: a path, absolute."""
    template = config.read(root / "dvc.yaml")["stages"][stage]
    words = shlex.split(template["do"]["cmd"])
    path = words[words.index(f"--{name}") + 1]
    section = template["foreach"].strip("${}")
    return root / stage_arguments.fill(path, stage_arguments.placeholders(section, key, block))


def abandoned(root: Path) -> list[Path]:
    """Outputs on disk of stages that DVC once ran and that the DAG no longer has."""
    if not (root / "dvc.lock").exists():
        return []
    stages, alive = config.read(root / "dvc.lock", strict=False).get("stages", {}), concrete(root)
    outs = {name: [root / out["path"] for out in stage.get("outs", [])] for name, stage in stages.items()}
    kept = {path for name in alive for path in outs.get(name, [])}
    gone = [path for name in sorted(set(outs) - alive) for path in outs[name] if path not in kept and path.exists()]
    for path in gone:
        if not path.resolve().is_relative_to(root.resolve()):
            raise refuse(str(path), "a place outside of the project", "one inside", "Mend dvc.lock.")
    return gone
