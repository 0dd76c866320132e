"""The case of a family: the block `model:` of one of its runs, and its task."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.conformance import Case, load_family
from pipeline.core import config, params
from pipeline.core.errors import refuse
from pipeline.training import families, init_from


def find(files: list[Path], family: str, setting: str | None) -> Case:
    """The case of the first run of the family (and the setting) in the params files; UserError if
    there is none."""
    load_family(family)
    for file in files:
        content = config.read(file)
        for name, run in content.get("runs", {}).items():
            is_wanted = isinstance(run, Mapping) and run.get("family") == family
            if is_wanted and setting in (None, run.get("setting")):
                return of_run(file, name)

    missing = family if setting is None else f"{family} with the setting {setting}"
    raise refuse(
        "FAMILY",
        missing,
        "a family of a run in params.yaml or in a preset",
        "Add its `model:` under settings: and a run under runs:, or give --model and --task.",
    )


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
        names = ", ".join(tasks or config.module_names("pipeline.tasks"))
        got = "methods of several tasks" if tasks else "methods of no task"
        raise refuse("--task", got, f"one of {names}", "Give --task.")
    return Case(family=family, task=tasks[0], block=block)


def _tasks_of(model: type) -> Iterator[str]:
    """The tasks whose methods the model has."""
    for name in config.module_names("pipeline.tasks"):
        task = config.named_module("pipeline.tasks", name, "task")
        if families.supports(model, task.MODELS):
            yield name
