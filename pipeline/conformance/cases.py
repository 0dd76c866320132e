"""The case of a family: the block `model:` of one of its runs, and its task."""

import inspect
import typing
from collections.abc import Iterator, Mapping
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
    for file in files:
        content = config.read(file)
        for name, run in content.get("runs", {}).items():
            is_wanted = isinstance(run, Mapping) and run.get("family") == family
            if is_wanted and setting in (None, run.get("setting")):
                return of_run(file, name)

    if setting is None and not init_from.component_families(family):
        return _guess(files, family, module)
    missing = family if setting is None else f"{family} with the setting {setting}"
    todo = "Add its `model:` under settings: and a run under runs:."
    raise refuse("FAMILY", missing, _OF_A_RUN, todo)


def _guess(files: list[Path], family: str, module: Any) -> Case:
    """The case of a family without a run; UserError if its methods are not those of one task, or
    if its sizes cannot be guessed."""
    tasks = list(_tasks_of(getattr(module, "Model", object)))
    config_class = getattr(module, "Config", None)
    # Without a class there are no keys, and the first check says what is missing.
    block = guess.block(files, config_class) if inspect.isclass(config_class) else {}
    if len(tasks) == 1 and block is not None:
        return Case(family=family, task=tasks[0], block=block, is_guessed=True)

    keys = typing.get_type_hints(config_class or object)
    shown = block_text(block or {key: key.upper() for key in keys})
    command = f"seqline check-model {family} --model '{shown}' --task"
    if len(tasks) == 1:
        raise refuse("FAMILY", family, _OF_A_RUN, f"Or run `{command} {tasks[0]}`.")
    todo = f"Or run `{command} TASK`, where TASK is one of {_names(tasks)}."
    raise refuse("FAMILY", f"{family} with {_methods_of(tasks)}", _OF_A_RUN, todo)


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
    return Case(family=run.family, task=run.task, block=run.model, component=component)


def of_block(family: str, task: str | None, block: Any) -> Case:
    """The case of a block `model:`; UserError if the task is not given and the model's methods do
    not tell it."""
    module = load_family(family)
    if not isinstance(block, dict):
        raise refuse("--model", block, "a mapping, such as '{hidden: 32}'")
    if task is not None:
        config.named_module("pipeline.tasks", task, "--task")
        return Case(family=family, task=task, block=block)

    tasks = list(_tasks_of(getattr(module, "Model", object)))
    if len(tasks) != 1:
        raise refuse("--task", _methods_of(tasks), f"one of {_names(tasks)}", "Give --task.")
    return Case(family=family, task=tasks[0], block=block)


def _methods_of(tasks: list[str]) -> str:
    return "methods of several tasks" if tasks else "methods of no task"


def _names(tasks: list[str]) -> str:
    return ", ".join(tasks or config.module_names("pipeline.tasks"))


def _tasks_of(model: type) -> Iterator[str]:
    """The tasks whose methods the model has."""
    for name in config.module_names("pipeline.tasks"):
        task = config.named_module("pipeline.tasks", name, "task")
        if families.supports(model, task.MODELS):
            yield name
