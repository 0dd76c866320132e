"""Families of models and the tasks that they support: a family supports a task if its model has the
methods, with parameters of the same names, of one of the task's protocols."""

import inspect
import typing
from types import ModuleType
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


def refuse_other_objective(task: ModuleType, model: type, objective: Any, where: str) -> None:
    """UserError if the objective, whose block is `where`, is not that of the model's class.

    `OBJECTIVES` of a task with several has the protocol of each one's models, the special ones
    first: a model is trained by the first that it supports."""
    objectives = getattr(task, "OBJECTIVES", {})
    fitting = [kind for kind, protocol in objectives.items() if supports(model, (protocol,))]
    if fitting and type(objective) is not (kind := fitting[0]):
        methods = typing.get_args(typing.get_type_hints(kind)["method"])
        family = model.__module__.rpartition(".")[2]
        raise refuse(f"{where}.method", objective.method, f"{' or '.join(methods)} for {family}")


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
