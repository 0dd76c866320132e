"""Families of models and the tasks that they support: a family supports a task if its model has the
methods, with parameters of the same names, of one of the task's protocols."""

import inspect
from typing import Any

from pipeline.core import config, params
from pipeline.core.errors import refuse

_FAMILIES = "pipeline.models"


def refuse_other_task(run: params.Run, where: str) -> None:
    """UserError if the family of the run `where` does not support its task."""
    task = config.named_module("pipeline.tasks", run.task, f"{where}.task")
    module = config.named_module("pipeline.models", run.family, f"{where}.family")
    if supports(module.Model, task.MODELS):
        return

    # Only this error imports all families.
    families = [
        name
        for name in config.module_names(_FAMILIES)
        if supports(config.named_module("pipeline.models", name, where).Model, task.MODELS)
    ]
    expected = f"one of {', '.join(families)} for {run.task}"
    raise refuse(f"{where}.family", run.family, expected, "Name another family or task.")


def supports(model: type, protocols: tuple[Any, ...]) -> bool:
    """Whether models of the class have the methods of one of the protocols."""
    return any(_has_methods(model, protocol) for protocol in protocols)


def _has_methods(model: type, protocol: Any) -> bool:
    methods = {
        name: method
        for name, method in vars(protocol).items()
        if inspect.isfunction(method) and not name.startswith("_")
    }
    return all(_has_method(model, name, method) for name, method in methods.items())


def _has_method(model: type, name: str, method: Any) -> bool:
    own = getattr(model, name, None)
    if own is None:
        # A module, such as an embedding, which is called like a method.
        return name in inspect.get_annotations(model)
    return list(inspect.signature(own).parameters) == list(inspect.signature(method).parameters)
