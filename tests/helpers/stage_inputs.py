"""Inputs of the stages of a project as DVC resolves them: what makes a stage run again."""

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from dvc.dependency import ParamsDependency, param
from dvc.repo import Repo


class StageInputs(NamedTuple):
    """Command, paths of the dependencies, and values of the parameters of a concrete stage."""

    command: str
    paths: frozenset[str]
    params: dict[str, Any]


def read(root: Path) -> dict[str, StageInputs]:
    """The inputs of each concrete stage of the DVC repository, by its name, such as
    `train@lstm-1`."""
    # Each of hundreds of stages would parse params.yaml.
    with mock.patch.object(param, "load_path", cache(param.load_path)):
        return {stage.name: _inputs(stage) for stage in Repo(str(root)).index.stages}


def _inputs(stage: Any) -> StageInputs:
    paths = []
    params: dict[str, Any] = {}
    for dep in stage.deps:
        if isinstance(dep, ParamsDependency):
            params |= dep.read_params()
        else:
            paths.append(str(dep.fs_path))
    return StageInputs(stage.cmd, frozenset(paths), params)


def changed(before: dict[str, StageInputs], after: dict[str, StageInputs]) -> set[str]:
    """Stages that both have, with other inputs."""
    return {name for name in before.keys() & after.keys() if before[name] != after[name]}
