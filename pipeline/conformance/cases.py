"""The case of a family: the block `model:` of one of its runs, and its task."""

import inspect
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from pipeline.conformance import Case, guess, load_family
from pipeline.core import config, params
from pipeline.core.errors import refuse
from pipeline.training import families, init_from

_OF_A_RUN = "a family of a run in params.yaml or in a preset"


def find(files: list[Path], family: str, setting: str | None) -> Case:
    """The case of the first run of the family (and the setting) in the params files; else one that
    is guessed from the family's code. UserError if neither is possible."""
    module = load_family(family)
    case = first_run(files, family, setting)
    if case is not None:
        return case
    if setting is None and not init_from.component_families(family):
        return _guess(files, family, module)
    missing = family if setting is None else f"{family} with the setting {setting}"
    todo = "Add its `model:` under settings: and a run under runs:."
    raise refuse("FAMILY", missing, _OF_A_RUN, todo)


def params_files(root: Path) -> list[Path]:
    """Files with settings: params.yaml, then the presets."""
    return [root / "params.yaml", *sorted((root / "presets").glob("*.yaml"))]


def first_run(files: list[Path], family: str, setting: str | None = None) -> Case | None:
    """The case of the first run of the family (and the setting) in the files, if there is one."""
    for file in files:
        content = config.read(file)
        for name, run in content.get("runs", {}).items():
            is_wanted = isinstance(run, Mapping) and run.get("family") == family
            if is_wanted and setting in (None, run.get("setting")):
                return of_run(file, name)
    return None


def _guess(files: list[Path], family: str, module: Any) -> Case:
    """The case of a family without a run; UserError if its methods are not those of one task, or
    if its sizes cannot be guessed."""
    tasks = tasks_of(module)
    block = guessed_block(files, module)
    if len(tasks) == 1 and block is not None:
        return Case(family=family, task=tasks[0], block=block, is_guessed=True)

    command = f"seqline check-model {family} {model_option(module, block)} --task"
    if len(tasks) == 1:
        raise refuse("FAMILY", family, _OF_A_RUN, f"Or run `{command} {tasks[0]}`.")
    todo = f"Or run `{command} TASK`, where TASK is one of {_names(tasks)}."
    raise refuse("FAMILY", f"{family} with {_methods_of(tasks)}", _OF_A_RUN, todo)


def guessed_block(files: list[Path], module: Any) -> dict[str, Any] | None:
    """A block `model:` for the family's module; None if a value cannot be guessed."""
    config_class = getattr(module, "Config", None)
    # Without a class there are no keys, and the first check says what is missing.
    return guess.block(files, config_class) if inspect.isclass(config_class) else {}


def model_option(module: Any, block: Mapping[str, Any] | None) -> str:
    """The option `--model` with the block, or with the names of its keys in place of values."""
    keys = typing.get_type_hints(getattr(module, "Config", object))
    return f"--model '{block_text(block or {key: key.upper() for key in keys})}'"


def block_text(block: Mapping[str, Any]) -> str:
    """A block `model:` as `--model` takes it, in one line."""
    flow = yaml.safe_dump(dict(block), default_flow_style=True, sort_keys=False, width=10**6)
    return flow.strip()


def of_run(file: Path, name: str) -> Case:
    """The case of a run of a params file, with the run that it contains."""
    run = params.run(file, name)
    component = None
    if run.init_from != params.SCRATCH and init_from.component_families(run.family):
        component = of_run(file, run.init_from)
    where = f"{file.name}: settings.{run.setting}.model"
    return Case(family=run.family, task=run.task, block=run.model, component=component, where=where)


def of_block(family: str, task: str | None, block: dict[str, Any]) -> Case:
    """The case of a block `model:`; UserError if the task is not given and the model's methods do
    not tell it."""
    module = load_family(family)
    if task is not None:
        config.named_module("pipeline.tasks", task, "--task")
        return Case(family=family, task=task, block=block, where="--model")

    tasks = tasks_of(module)
    if len(tasks) != 1:
        raise refuse("--task", _methods_of(tasks), f"one of {_names(tasks)}", "Give --task.")
    return Case(family=family, task=tasks[0], block=block, where="--model")


def parse_block(text: str) -> dict[str, Any]:
    """The block `model:` that the option `--model` has as YAML; UserError if it has none."""
    example = "'{hidden: 32, layers: 1}'"
    try:
        block = yaml.safe_load(text)
    except yaml.YAMLError:
        raise refuse("--model", text, f"YAML, such as {example}") from None
    if not isinstance(block, dict):
        raise refuse("--model", text, f"a mapping, such as {example}")
    return block


def _methods_of(tasks: list[str]) -> str:
    return "methods of several tasks" if tasks else "methods of no task"


def _names(tasks: list[str]) -> str:
    return ", ".join(tasks or config.module_names("pipeline.tasks"))


def tasks_of(module: Any) -> list[str]:
    """The tasks whose methods the class `Model` of a family's module has."""
    model = getattr(module, "Model", object)
    if not isinstance(model, type):
        return []
    names = config.module_names("pipeline.tasks")
    tasks = {name: config.named_module("pipeline.tasks", name, "task") for name in names}
    return [name for name, task in tasks.items() if families.supports(model, task.MODELS)]
