"""Checks of every family."""

import dataclasses
import inspect
import math
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import Tensor

from pipeline.conformance import (
    CPU,
    Case,
    Check,
    Failed,
    add_noise,
    expect,
    expect_same,
    one_thread,
)
from pipeline.contracts import Decodable
from pipeline.core import config
from pipeline.training import checkpoint, families, fitted, loop, optim

_MOST_NAMED = 5
_BATCHES = 4  # of the gradient


def settings(case: Case) -> None:
    """Config is a frozen dataclass without defaults, and takes the block `model:`."""
    module = case.module
    for name, kind in (("Config", "a frozen dataclass"), ("Model", "a torch module")):
        is_class = inspect.isclass(getattr(module, name, None))
        expect(is_class, f"{case.family}.py: got no class {name}; expected {kind} of that name.")
    parameters = getattr(module.Config, "__dataclass_params__", None)
    is_frozen = parameters is not None and parameters.frozen
    decorator = "@dataclass(frozen=True, kw_only=True, slots=True)"
    expect(is_frozen, f"Config: got a class that can be changed; expected {decorator}.")
    defaults = [
        field.name
        for field in dataclasses.fields(module.Config)
        if field.default is not dataclasses.MISSING
        or field.default_factory is not dataclasses.MISSING
    ]
    expect(
        not defaults,
        f"Config: got defaults of {', '.join(defaults)}; expected none. A default would be a "
        "parameter that `dvc params diff` cannot show.",
    )
    case.build()


def methods(case: Case) -> None:
    """Model has the methods of its task, with parameters of the same names."""
    task = config.named_module("pipeline.tasks", case.task, "task")
    if not families.supports(case.model_class, task.MODELS):
        missing = min((missing_methods(case.model_class, kind) for kind in task.MODELS), key=len)
        raise Failed(f"Model: got no {'; no '.join(missing)}; expected {_names(task.MODELS)}.")
    if task.USES_SEARCH and (missing := missing_methods(case.model_class, Decodable)):
        raise Failed(
            f"Model: got no {'; no '.join(missing)}; expected contracts.Decodable, for searches."
        )


def missing_methods(model: type, protocol: Any) -> list[str]:
    """Signatures of the protocol's methods that the class lacks, or has with other parameters."""
    missing = []
    for name, method in vars(protocol).items():
        if inspect.isfunction(method) and not name.startswith("_"):
            single_method = type(name, (), {name: method})
            if not families.supports(model, (single_method,)):
                parameters = list(inspect.signature(method).parameters)[1:]
                missing.append(f"{name}({', '.join(parameters)})")
    return missing


def _names(protocols: Iterable[Any]) -> str:
    return " or ".join(f"contracts.{protocol.__name__}" for protocol in protocols)


def repeatable(case: Case) -> None:
    """In evaluation mode, the same input gives the same output."""
    model = case.model()
    first, second = (case.kind.outputs(model) for _ in range(2))
    todo = "Draw no random numbers in evaluation mode: `nn.dropout.Dropout` does not."
    expect_same("outputs of the same model", second, first, todo)


def save_and_load(case: Case) -> None:
    """A saved model that is loaded computes the same."""
    model = case.model()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint.write_model(Path(folder), model, case.metadata())
        loaded = checkpoint.load_model(Path(folder), CPU)
    todo = "Keep all that a training changes in parameters or in buffers (register_buffer)."
    expect_same(
        "outputs of the loaded model", case.kind.outputs(loaded), case.kind.outputs(model), todo
    )


def gradients(case: Case) -> None:
    """The gradient of the loss reaches every parameter."""
    if case.is_fitted:
        return
    model = case.build().requires_grad_(True).train()
    add_noise(model)
    task = _task(case, model)
    hidden_state: Any = None
    for planned in task.plan(0)[:_BATCHES]:
        loss, hidden_state = task.loss(model, task.batch(planned), hidden_state)
        loss.total.backward()
    dead = [name for name, weight in model.named_parameters() if not _has_gradient(weight)]
    shown = ", ".join(dead[:_MOST_NAMED]) + (", ..." if len(dead) > _MOST_NAMED else "")
    expect(
        not dead,
        f"parameters: got no gradient of {shown}; expected one of each. Use them in the loss, or "
        "remove them.",
    )


def learning(case: Case) -> None:
    """A short training learns the rule of a few hundred rows."""
    results = []
    rates = (0.0,) if case.is_fitted else case.kind.RATES
    for rate in rates:
        model = case.build()
        with one_thread(), tempfile.TemporaryDirectory() as work:
            if case.is_fitted:
                _fit(case, model)
            else:
                _train(case, model, rate, Path(work))
        has_learned, line = case.kind.learned(model.eval())
        if has_learned:
            return
        results.append(f"{line} (learning rate {rate})" if rate else line)
    todo = "Return logits, without a softmax, and let each layer have an effect on them."
    raise Failed(f"training: got {'; '.join(results)}. {todo}")


def _task(case: Case, model: Any) -> Any:
    task = config.named_module("pipeline.tasks", case.task, "task")
    build = getattr(task, "build", None) or task.Task
    return build(*case.kind.training(model), 1, CPU)


def _fit(case: Case, model: Any) -> None:
    train, valid, _ = case.kind.training(model)
    task = config.named_module("pipeline.tasks", case.task, "task")
    validate = None
    if getattr(task, "SCORES_BY_OBJECTIVE", False):
        validate = _task(case, model).validate
    fitted.fit(model, train, valid, 1, lambda *_: None, validate)


def _train(case: Case, model: Any, rate: float, work: Path) -> None:
    settings = loop.Config(
        max_epochs=case.kind.EPOCHS,
        patience=None,
        accumulate=1,
        average=None,
        precision="float32",
        threads=1,
    )
    optimiser = optim.load(case.kind.OPTIM | {"learning_rate": rate}, "optim")
    trainer = loop.Loop(
        model.requires_grad_(True),
        _task(case, model),
        optimiser,
        settings,
        seed=1,
        work=work,
        log=lambda *_: None,
    )
    trainer.run(lambda *_: None)


def _has_gradient(weight: Tensor) -> bool:
    if not weight.requires_grad:
        return True
    gradient = weight.grad
    if gradient is None:
        return False
    values = gradient.coalesce().values() if gradient.is_sparse else gradient
    return bool(values.any()) and math.isfinite(float(values.sum()))


def first_checks(case: Case) -> tuple[Check, ...]:
    """Checks whose faults leave the others nothing to find: settings, methods, shapes."""
    return (settings, methods, case.kind.CHECKS[0])


def checks(case: Case) -> tuple[Check, ...]:
    """All checks of the case, in an order in which the first fault explains those after it."""
    further = case.kind.CHECKS[1:]
    return (*first_checks(case), repeatable, *further, save_and_load, gradients, learning)
