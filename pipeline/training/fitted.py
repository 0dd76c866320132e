"""Runs whose model is fitted without gradients, in one pass over the training rows
(`contracts.Fitted`): n-gram models, naive Bayes, translation memory and the like.

Their blocks `optim` and `training` are null, and `objective` unless the scores of the task depend
on it (`SCORES_BY_OBJECTIVE` of its module)."""

import math
from collections.abc import Callable

import pyarrow as pa
from torch import nn

from pipeline.contracts import Fitted, Log, Loss
from pipeline.core import config, params
from pipeline.core.errors import UserError, refuse
from pipeline.training import loop

GRADIENT_BLOCKS = ("objective", "optim", "training")
THREADS = 1  # of torch, as such a run has no `training.threads`

Validate = Callable[[nn.Module], tuple[Loss, dict[str, float]]]
"""`Task.validate`."""


def is_fitted(family: str, where: str) -> bool:
    """Whether models of the family are fitted without gradients; `where` is the family's key."""
    return issubclass(config.named_module("pipeline.models", family, where).Model, Fitted)


def check_blocks(run: params.Run, where: str) -> bool:
    """Whether the run of the setting `where` is fitted without gradients.

    UserError unless its blocks for training by gradients are null exactly then.
    """
    fitted = is_fitted(run.family, f"{where}.family")
    task = config.named_module("pipeline.tasks", run.task, f"{where}.task")
    for key in GRADIENT_BLOCKS:
        block = getattr(run, key)
        if key == "objective" and getattr(task, "SCORES_BY_OBJECTIVE", False):
            if block is None:
                expected = f"a section: the scores of {run.task} depend on it"
                raise refuse(f"{where}.{key}", "null", expected)
            continue
        if fitted and block is not None:
            expected = f"null: {run.family} is fitted without gradients"
            raise refuse(f"{where}.{key}", "a section", expected, "Set it to null.")
        if not fitted and block is None:
            expected = f"a section: {run.family} is trained by gradients"
            raise refuse(f"{where}.{key}", "null", expected)
    return fitted


def training_config(run: params.Run, where: str) -> loop.Config | None:
    """The block `training` of the setting `where`; None if it is fitted without gradients."""
    if check_blocks(run, where):
        return None
    return config.load(loop.Config, run.training, f"{where}.training")


def fit(
    model: nn.Module,
    train: pa.Table,
    valid: pa.Table,
    seed: int,
    log: Log,
    validate: Validate | None = None,
) -> loop.Progress:
    """Fit the model; log its validation metrics, and return them as the history of one step.

    `validate`: computes these metrics, if the model does not. UserError if one is not finite.
    """
    assert isinstance(model, Fitted)
    model.eval()
    metrics = model.fit(train, valid, seed)
    if validate is not None:
        loss, further = validate(model)
        metrics = {"loss": float(loss.total) / loss.tokens} | further | metrics
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise UserError(f"training: got a validation {name} of {value}; expected a number.")

    # exp(709.8) is the largest float
    perplexity = math.exp(min(metrics["loss"], 700.0))
    metrics = {"loss": metrics["loss"], "perplexity": perplexity} | metrics
    named = {f"valid/{name}": value for name, value in metrics.items()}
    log(named, 1)
    history = [(1, 1, name, value) for name, value in named.items()]
    return loop.Progress(step=1, epoch=1, best_loss=metrics["loss"], best_step=1, history=history)
