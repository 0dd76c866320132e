"""Optimisers (torch's own) and learning-rate schedules (d2l chapter 12)."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from pipeline.errors import refuse


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`optim:` of a run. `clip_norm` null clips nothing; `warmup_steps` raise the rate linearly from zero."""

    name: Literal["sgd", "adagrad", "adam", "adamw"]
    learning_rate: float
    betas: tuple[float, ...]
    weight_decay: float
    schedule: Literal["constant", "cosine", "inverse_square_root"]
    warmup_steps: int
    clip_norm: float | None

    def __post_init__(self) -> None:
        if self.learning_rate <= 0:
            raise refuse("learning_rate", self.learning_rate, "above 0")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise refuse("betas", list(self.betas), "two numbers from 0 to below 1, such as [0.9, 0.999]")
        if self.warmup_steps < 0:
            raise refuse("warmup_steps", self.warmup_steps, "0 or more")
        if self.schedule == "inverse_square_root" and self.warmup_steps < 1:
            raise refuse("warmup_steps", self.warmup_steps, "at least 1 with schedule inverse_square_root")
        if self.clip_norm is not None and self.clip_norm <= 0:
            raise refuse("clip_norm", self.clip_norm, "above 0, or null")


def optimizer(config: Config, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Torch's optimiser for the block."""
    rate, decay = config.learning_rate, config.weight_decay
    if config.name == "sgd":
        return torch.optim.SGD(parameters, lr=rate, weight_decay=decay)
    if config.name == "adagrad":
        return torch.optim.Adagrad(parameters, lr=rate, eps=1e-9, weight_decay=decay)
    kind = torch.optim.Adam if config.name == "adam" else torch.optim.AdamW
    return kind(parameters, lr=rate, betas=(config.betas[0], config.betas[1]), eps=1e-9, weight_decay=decay)


def rate(config: Config, step: int, progress: float) -> float:
    """The learning rate of the update `step` (from 1), `progress` (0 to 1) of the way through all epochs.

    cosine falls to zero along half a wave (d2l 12.11.3.3); inverse_square_root is `learning_rate` at the end of the
    warm-up and falls with 1/sqrt(step) (Vaswani et al. 2017, equation 3, rescaled).
    """
    peak, warm = config.learning_rate, config.warmup_steps
    if step < warm:
        return peak * step / warm
    if config.schedule == "cosine":
        return peak * 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))
    if config.schedule == "inverse_square_root":
        return peak * math.sqrt(warm / step)
    return peak
