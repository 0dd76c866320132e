"""Tests of the models of a family against the contracts of `pipeline/contracts.py`.

`examine(case)` runs the checks of every family, in `common.py`, and those of the family's task, in
`tasks/`. The data are a few hundred rows whose rule is known; models have the sizes of their
`model:` block."""

import re
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import pyarrow as pa
import torch
from torch import Tensor, nn

from pipeline.contracts import Fitted, Sizes, Spelled
from pipeline.core import config
from pipeline.core.errors import UserError, describe_error, refuse
from pipeline.training import checkpoint

CPU = torch.device("cpu")
_SEED = 3
_LARGEST_NOISE = 0.1


ADAM = {
    "name": "adam",
    "betas": [0.9, 0.98],
    "weight_decay": 0.0,
    "clip_norm": 1.0,
    "schedule": {"name": "cosine", "warmup_steps": 20},
}
"""A block `optim:` without its learning rate."""


class Failed(Exception):
    """A fault: one line with the value, what is expected, and what to do."""


class Crashed(Failed):
    """An error raised by the model's code. `cause` is equal for the same error in another check."""

    def __init__(self, line: str, cause: str) -> None:
        super().__init__(line)
        self.cause = cause


Check = Callable[["Case"], None]
"""Raises Failed. Its docstring says in one line what holds if it does not."""


class Kind(Protocol):
    """A module of `tasks` for one task, with its name."""

    EXAMPLE: str  # a short module with a model of the task, which a new family begins from
    SIZES: Sizes
    CHECKS: tuple[Check, ...]  # that of shapes is the first
    OPTIM: dict[str, Any]  # as ADAM
    RATES: tuple[float, ...]  # learning rates, tried in this order until the task is learnt
    EPOCHS: int

    def training(self, model: Any) -> tuple[pa.Table, pa.Table, Any]:
        """Encoded rows train and valid, and the objective, for a model of these sizes."""

    def outputs(self, model: Any) -> Tensor:
        """What the model computes for a few inputs; equal for equal models."""

    def learned(self, model: Any) -> tuple[bool, str]:
        """Whether a trained model knows the rule of the rows, and how well, in words."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A family with a block `model:` for one of its tasks. `component`: the model that it
    contains. `is_guessed`: task and block are from the family's code, and from no run. `where`: the
    block's name in messages."""

    family: str
    task: str
    block: dict[str, Any]
    component: "Case | None" = None
    is_guessed: bool = False
    where: str = "model"

    @property
    def kind(self) -> Kind:
        """The module of `tasks` for the task."""
        module: Any = config.named_module("pipeline.conformance.tasks", self.task, "task")
        return cast(Kind, module)

    @property
    def module(self) -> Any:
        """The family's module; UserError if it cannot be imported."""
        return load_family(self.family)

    @property
    def model_class(self) -> Any:
        """The family's class `Model`."""
        return self.module.Model

    @property
    def is_fitted(self) -> bool:
        """Whether the family is fitted without gradients."""
        return issubclass(self.model_class, Fitted)

    def build(self) -> Any:
        """A new model in evaluation mode."""
        component = None if self.component is None else self.component.model()
        torch.manual_seed(_SEED)
        sizes = self.kind.SIZES
        block = self.block | ({"dropout": 0.0} if "dropout" in self.block else {})
        model = checkpoint.build(self.family, block, sizes, self.where, component).eval()
        if isinstance(model, Spelled):
            model.read_words([f"word{number}" for number in range(sizes.source)])
        return model

    def model(self) -> Any:
        """A new model in evaluation mode, without the symmetry of its beginning: fitted, or with
        noise on its weights. Zeros and ones would hide a wrong one."""
        with torch.inference_mode(False):  # a check may be without gradients
            model = self.build()
            if self.is_fitted:
                train, valid, _ = self.kind.training(model)
                model.fit(train, valid, _SEED)
                return model
            add_noise(model)
            return model.requires_grad_(False)

    def metadata(self) -> dict[str, Any]:
        """What `config.json` of a saved model has to say."""
        sizes = self.kind.SIZES
        by_name = {"source": sizes.source, "target": sizes.target, "shared": sizes.shared}
        run = {"family": self.family, "model": self.block}
        return {"run": run, "sizes": by_name, "component": self._component_blocks()}

    def _component_blocks(self) -> dict[str, Any] | None:
        if self.component is None:
            return None
        inner = self.component
        blocks = {"family": inner.family, "model": inner.block}
        return blocks | {"component": inner._component_blocks()}


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of a check. `skip`: an earlier fault leaves it nothing to find."""

    state: Literal["ok", "FAIL", "skip"]
    name: str
    detail: str


def load_family(family: str, where: str = "FAMILY") -> Any:
    """Import a family's module; UserError, with the line, for an error in it. `where`: the name of
    the argument."""
    try:
        return config.named_module("pipeline.models", family, where)
    except UserError:
        raise
    except Exception as error:
        problem = f"{family}.py, with {type(error).__name__}: {describe_error(error)}"
        expected = "a module that can be imported"
        raise refuse(where, problem + _place(error), expected) from error


def examine(case: Case) -> Iterator[Finding]:
    """Run the checks, one after the other, until one of the first has a fault, or one ends in an
    error that an earlier one had."""
    from pipeline.conformance import common

    first = common.first_checks(case)
    blocked = False
    causes: set[str] = set()
    for check in common.checks(case):
        name = check.__name__.replace("_", " ")
        if blocked:
            yield Finding("skip", name, summary(check))
            continue
        try:
            run_check(check, case)
        except Crashed as crash:
            blocked = check in first or crash.cause in causes
            state: Literal["FAIL", "skip"] = "skip" if crash.cause in causes else "FAIL"
            causes.add(crash.cause)
            yield Finding(state, name, str(crash))
        except Failed as failure:
            yield Finding("FAIL", name, str(failure))
            blocked = check in first
        else:
            yield Finding("ok", name, summary(check))


def run_check(check: Check, case: Case) -> None:
    """Run one check; Crashed for an error in the model's code. A fault has its place."""
    try:
        with torch.random.fork_rng(devices=[]):
            check(case)
    except Failed as failure:
        raise Failed(f"{failure}{_method_place(case, str(failure))}") from failure
    except UserError as error:
        # A mistake in the block: its line names the key.
        line = describe_error(error)
        raise Crashed(line, line) from error
    except Exception as error:
        name, place = type(error).__name__, _place(error)
        line = f"{name}: {describe_error(error)}{place}"
        # Shapes in the message may differ: the place tells whether it is the same error.
        raise Crashed(line, f"{name}{place}" if place else line) from error


def summary(check: Check) -> str:
    """What holds if the check finds no fault."""
    return (check.__doc__ or "").split("\n")[0].rstrip(".")


def _place(error: Exception) -> str:
    """The line of the family's own code that raised the error."""
    models = Path(__file__).parents[1] / "models"
    frames = traceback.extract_tb(error.__traceback__)
    in_models = [frame for frame in frames if Path(frame.filename).parent == models]
    if not in_models:
        return ""
    return f" ({Path(in_models[-1].filename).name}, line {in_models[-1].lineno})"


def _method_place(case: Case, line: str) -> str:
    """The place of the family's own method that the line begins with, or names in backticks."""
    methods = vars(getattr(case.module, "Model", object))
    for word in re.findall(r"^\w+|(?<=`)\w+(?=`)", line):
        code = getattr(methods.get(word), "__code__", None)
        if code is not None:
            return f" ({Path(code.co_filename).name}, line {code.co_firstlineno})"
    return ""


def add_noise(model: nn.Module) -> None:
    """Add noise to each weight that is small beside what a layer of its size begins with."""
    generator = torch.Generator().manual_seed(_SEED)
    with torch.no_grad():
        for weight in model.parameters():
            inputs = weight.shape[-1] if weight.dim() > 1 else 100
            scale = min(_LARGEST_NOISE, inputs**-0.5)
            weight.add_(scale * torch.randn(weight.shape, generator=generator))


# --- for checks


def is_trained(model: nn.Module) -> bool:
    """Whether a model was trained by gradients, and not fitted."""
    return any(weight.requires_grad for weight in model.parameters())


def expect(holds: bool, line: str) -> None:
    """Raise Failed with the line unless it holds."""
    if not holds:
        raise Failed(line)


def expect_shape(what: str, tensor: Tensor, shape: Sequence[int], names: str) -> None:
    """Raise Failed for another shape than expected, whose dimensions have these names."""
    if tuple(tensor.shape) != tuple(shape):
        got, expected = tuple(tensor.shape), tuple(shape)
        raise Failed(f"{what}: got shape {got}; expected {names}, {expected}. Return this shape.")


def difference(first: Tensor, second: Tensor) -> float:
    """The largest difference, relative to numbers above 1."""
    first, second = first.double(), second.double()
    apart = (first - second).abs() / second.abs().clamp(min=1.0)
    # Equal infinities are equal: a log-probability may be one.
    apart = apart.masked_fill(first == second, 0.0)
    return float(apart.max()) if apart.numel() else 0.0


def expect_same(what: str, first: Tensor, second: Tensor, todo: str) -> None:
    """Raise Failed if the tensors differ by more than the rounding of float32."""
    apart = difference(first, second)
    if not apart <= 1e-4:
        raise Failed(f"{what}: got a difference of {apart:.2g}; expected none. {todo}")


def expect_different(what: str, first: Tensor, second: Tensor, todo: str) -> None:
    """Raise Failed if the tensors are equal."""
    if difference(first, second) <= 1e-7:
        raise Failed(f"{what}: got no difference; expected one. {todo}")


def log_probs(model: Any, hidden: Tensor) -> Tensor:
    """Log-probabilities of all vectors of `hidden`, by the model's `project`."""
    logits_NV = model.project(hidden.flatten(0, -2))
    log_probs: Tensor = logits_NV.float().log_softmax(-1).unflatten(0, hidden.shape[:-1])
    return log_probs


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread, as tensors are small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
