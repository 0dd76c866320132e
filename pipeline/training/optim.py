"""Optimisers (torch's, see d2l chapter 12) and learning-rate schedules (d2l section 12.11).

In the equations g is the gradient, x a parameter and η the learning rate of the update; all
operations are by element."""

import math
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from pipeline.core import config
from pipeline.core.errors import refuse

# Vaswani et al. 2017, section 5.3. torch adds it to the root; the book, except for Adam, under it.
EPSILON = 1e-9
ADADELTA_EPSILON = 1e-6  # sets the size of the first updates: Zeiler 2012, section 4.1


@dataclass(frozen=True, kw_only=True, slots=True)
class Constant:
    """`learning_rate` throughout.

    Every schedule begins with `warmup_steps`, which raise the rate linearly from zero.
    """

    name: Literal["constant"]
    warmup_steps: int

    def __post_init__(self) -> None:
        check_warmup(0, self.warmup_steps)


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """Multiply by `factor` after every `every` epochs (d2l 12.11.3.2)."""

    name: Literal["step"]
    warmup_steps: int
    every: int
    factor: float

    def __post_init__(self) -> None:
        check_warmup(0, self.warmup_steps)
        if self.every < 1:
            raise refuse("every", self.every, "at least 1 epoch")
        if not 0 < self.factor <= 1:
            raise refuse("factor", self.factor, "above 0 and at most 1, such as 0.5")


@dataclass(frozen=True, kw_only=True, slots=True)
class Cosine:
    """Half a cosine wave, from `learning_rate` to zero at the end of the last epoch (d2l 12.11.3.3,
    equation 12.11.1)."""

    name: Literal["cosine"]
    warmup_steps: int

    def __post_init__(self) -> None:
        check_warmup(0, self.warmup_steps)


@dataclass(frozen=True, kw_only=True, slots=True)
class InverseSquareRoot:
    """`learning_rate` at the end of the warm-up, then falling with 1/sqrt(step) (Vaswani et al.
    2017, equation 3)."""

    name: Literal["inverse_square_root"]
    warmup_steps: int

    def __post_init__(self) -> None:
        check_warmup(1, self.warmup_steps)


Schedule = Constant | Step | Cosine | InverseSquareRoot


@dataclass(frozen=True, kw_only=True, slots=True)
class Common:
    """Settings of `optim:` that every optimiser has.

    - `weight_decay` adds this multiple of x to g. adamw instead shrinks x by η times it (Loshchilov
      and Hutter 2019).
    - `clip_norm`: largest norm of the gradient (d2l section 9.5.3); null does not clip.
    """

    learning_rate: float
    weight_decay: float
    clip_norm: float | None
    schedule: Schedule

    def __post_init__(self) -> None:
        if self.learning_rate <= 0:
            raise refuse("learning_rate", self.learning_rate, "above 0")
        if self.weight_decay < 0:
            raise refuse("weight_decay", self.weight_decay, "0 or more")
        if self.clip_norm is not None and self.clip_norm <= 0:
            raise refuse("clip_norm", self.clip_norm, "above 0, or null")


@dataclass(frozen=True, kw_only=True, slots=True)
class Plain(Common):
    """sgd: x ← x - η g (d2l 12.5). adagrad: s ← s + g², x ← x - η g / sqrt(s) (d2l 12.7.3, equation
    12.7.5)."""

    name: Literal["sgd", "adagrad"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Momentum(Common):
    """momentum: v ← β v + g, x ← x - η v (d2l 12.6.1.3, equation 12.6.5).

    nesterov: the same, with g taken at the point that the momentum alone would reach (Sutskever et
    al. 2013, equations 3 and 4)."""

    name: Literal["momentum", "nesterov"]
    momentum: float

    def __post_init__(self) -> None:
        Common.__post_init__(self)
        if not 0 < self.momentum < 1:
            raise refuse("momentum", self.momentum, "between 0 and 1, such as 0.9")


@dataclass(frozen=True, kw_only=True, slots=True)
class RMSprop(Common):
    """s ← γ s + (1 - γ) g², x ← x - η g / sqrt(s), with γ = `smoothing` (d2l 12.8.1, equation
    12.8.1)."""

    name: Literal["rmsprop"]
    smoothing: float

    def __post_init__(self) -> None:
        Common.__post_init__(self)
        check_decay("smoothing", self.smoothing)


@dataclass(frozen=True, kw_only=True, slots=True)
class Adadelta(Common):
    """s ← ρ s + (1 - ρ) g², d = sqrt(Δ + ε) / sqrt(s + ε) g, x ← x - η d, Δ ← ρ Δ + (1 - ρ) d² (d2l
    12.9.1 to 12.9.4).

    The book's has no learning rate: set 1.
    """

    name: Literal["adadelta"]
    rho: float

    def __post_init__(self) -> None:
        Common.__post_init__(self)
        check_decay("rho", self.rho)


@dataclass(frozen=True, kw_only=True, slots=True)
class Adam(Common):
    """v ← β1 v + (1 - β1) g, s ← β2 s + (1 - β2) g², both divided by 1 - β^t, and x ← x - η v /
    (sqrt(s) + ε).

    d2l equations 12.10.1 to 12.10.4; adamw differs by its weight decay.
    """

    name: Literal["adam", "adamw"]
    betas: tuple[float, ...]

    def __post_init__(self) -> None:
        Common.__post_init__(self)
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise refuse(
                "betas", list(self.betas), "two numbers from 0 to below 1, such as [0.9, 0.999]"
            )


Config = Plain | Momentum | RMSprop | Adadelta | Adam
"""`optim:` of a run, one of these by its `name`."""


def load(block: Any, where: str) -> Config:
    """The block `optim:` of a run, called `where` in messages."""
    optim_config: Config = config.load_named(typing.get_args(Config), block, where)
    return optim_config


def optimizer(optim_config: Config, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Build torch's optimiser. The training loop sets the rate of each update, by `rate`."""
    peak = optim_config.learning_rate
    decay = optim_config.weight_decay
    match optim_config:
        case Plain(name="sgd"):
            return torch.optim.SGD(parameters, lr=peak, weight_decay=decay)
        case Plain():
            return torch.optim.Adagrad(parameters, lr=peak, eps=EPSILON, weight_decay=decay)
        case Momentum(name=name, momentum=momentum):
            # torch's velocity excludes the learning rate, as in the docstring of Momentum
            return torch.optim.SGD(
                parameters,
                lr=peak,
                momentum=momentum,
                nesterov=name == "nesterov",
                weight_decay=decay,
            )
        case RMSprop(smoothing=smoothing):
            return torch.optim.RMSprop(
                parameters, lr=peak, alpha=smoothing, eps=EPSILON, weight_decay=decay
            )
        case Adadelta(rho=rho):
            return torch.optim.Adadelta(
                parameters, lr=peak, rho=rho, eps=ADADELTA_EPSILON, weight_decay=decay
            )
        case Adam(name=name, betas=(beta1, beta2)):
            adam = torch.optim.Adam if name == "adam" else torch.optim.AdamW
            return adam(
                parameters,
                lr=peak,
                betas=(beta1, beta2),
                eps=EPSILON,
                weight_decay=decay,
                fused=True,  # one kernel for all parameters
            )
    raise AssertionError(optim_config)


def rate(optim_config: Config, step: int, epochs: float, max_epochs: int) -> float:
    """The learning rate of the update `step` (from 1), which begins after `epochs` epochs of
    `max_epochs`."""
    peak = optim_config.learning_rate
    warmup_steps = optim_config.schedule.warmup_steps
    # Linear warm-up (d2l 12.11.3.4)
    if step < warmup_steps:
        return peak * step / warmup_steps

    match optim_config.schedule:
        case Step(every=every, factor=factor):
            return peak * factor ** int(epochs // every)
        case Cosine():
            # d2l equation 12.11.1 with a final rate of zero, from the end of the warm-up on: there
            # the rate is the peak. The updates before this one tell which share of the training
            # the warm-up was.
            done = min(epochs / max_epochs, 1.0)
            warmup = done * (warmup_steps - 1) / (step - 1) if warmup_steps > 1 < step else 0.0
            progress = (done - warmup) / (1.0 - warmup) if warmup < 1.0 else 0.0
            return peak * 0.5 * (1.0 + math.cos(math.pi * progress))
        case InverseSquareRoot():
            # continuous at the end of the warm-up, where it is the peak
            return peak * math.sqrt(warmup_steps / step)
    return peak


def check_warmup(least: int, steps: int) -> None:
    """UserError if the warm-up is shorter than `least` steps."""
    if steps < least:
        raise refuse(
            "warmup_steps", steps, "at least 1 with this schedule" if least else "0 or more"
        )


def check_decay(key: str, value: float) -> None:
    """UserError for a decay rate of a running mean outside [0, 1)."""
    if not 0 <= value < 1:
        raise refuse(key, value, "from 0 to below 1, such as 0.9")
