"""A short training, for tests of what a model can learn."""

from pathlib import Path
from typing import Any

from torch import nn

from pipeline.training import loop, optim

OWN_KEYS: dict[str, dict[str, Any]] = {
    "sgd": {},
    "momentum": {"momentum": 0.8},
    "nesterov": {"momentum": 0.8},
    "adagrad": {},
    "rmsprop": {"smoothing": 0.9},
    "adadelta": {"rho": 0.9},
    "adam": {"betas": [0.9, 0.98]},
    "adamw": {"betas": [0.9, 0.98]},
}
"""What each optimiser's `optim:` holds beside what all have."""


def epochs(count: int) -> loop.Config:
    """`training:` of so many epochs."""
    return loop.Config(
        max_epochs=count, patience=None, accumulate=1, average=None, precision="float32", threads=1
    )


def adam(rate: float, warmup: int = 20) -> optim.Config:
    """`optim:` with Adam, its rate falling along a cosine."""
    return optim.Adam(
        name="adam",
        learning_rate=rate,
        betas=(0.9, 0.98),
        weight_decay=0.0,
        clip_norm=1.0,
        schedule=optim.Cosine(name="cosine", warmup_steps=warmup),
    )


def fit(
    model: nn.Module, task: Any, rate: float, count: int, work: Path, warmup: int = 20
) -> loop.Progress:
    """Train the model on the task for `count` epochs."""
    trainer = loop.Loop(
        model, task, adam(rate, warmup), epochs(count), seed=1, work=work, log=lambda *_: None
    )
    done = trainer.run(lambda *_: None)
    model.eval()
    return done
