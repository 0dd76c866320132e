"""The one training loop: any task, any model, resumable at any step to the same bits.

A run's state lives in a work folder; it is written every 20 seconds and at the end of training,
always whole, and holds all that the next step depends on. `SEQLINE_SAVE_SECONDS` says how often
otherwise, which changes no result: less where a machine may be taken away any moment, more where
states are large."""

import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pipeline.contracts import Log, Task
from pipeline.core.errors import UserError, at_least_one, refuse
from pipeline.core.seeding import derive
from pipeline.training import averaging, checkpoint, optim, parallel, saved, sparse

LOG_STEPS = 10
STATE, BEST = "state.safetensors", "best.safetensors"


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`training:` of a run. `patience`: epochs without a better validation loss before stopping;
    null never stops early.

    `accumulate`: batches per update. `average`: of how many last epochs the weights are averaged in
    the end; null takes the weights of the best validation loss instead. `precision` and `threads`
    change the bits of the result, so they belong to the run."""

    max_epochs: int
    patience: int | None
    accumulate: int
    average: int | None
    precision: Literal["float32", "bfloat16"]
    threads: int

    def __post_init__(self) -> None:
        at_least_one(max_epochs=self.max_epochs, accumulate=self.accumulate, threads=self.threads)
        if self.patience is not None and self.patience < 1:
            raise refuse("patience", self.patience, "at least 1, or null")
        if self.average is not None and not 1 <= self.average <= self.max_epochs:
            raise refuse(
                "average", self.average, f"from 1 to max_epochs, {self.max_epochs}, or null"
            )


@dataclass
class Progress:
    """State of a training besides the weights: everything JSON-able that the next step depends
    on."""

    step: int = 0
    epoch: int = 0
    batch: int = 0  # batches of the epoch that are done
    best_loss: float = math.inf
    best_step: int = 0
    since_best: int = 0  # epochs
    nats: float = 0.0  # since the last line of history
    tokens: int = 0
    history: list[tuple[int, int, str, float]] = field(default_factory=list)


class Loop:
    """Train `model` on `task`; afterwards the model holds the best weights, or the mean of the
    last, as `config` says."""

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        optim_config: optim.Config,
        config: Config,
        *,
        seed: int,
        work: Path,
        log: Log,
        group: parallel.Group = parallel.SINGLE_PROCESS,
    ) -> None:
        self.model, self.task, self.optim_config, self.config = model, task, optim_config, config
        self.optimizer = optim.optimizer(optim_config, model.parameters())
        sparse.check(model, self.optimizer, group.size)
        parallel.check(model, group.size)
        self.device = next(model.parameters()).device
        self.work, self.log = work, log
        self.progress = Progress()
        self.carry: tuple[Tensor, ...] | None = None
        self.saved, self.save_seconds = time.monotonic(), saved.save_seconds()
        self.seed, self.group = seed, group

    def run(self, tick: Callable[[Progress, int], None]) -> Progress:
        """Train to the end; `tick(progress, steps per epoch)` is called after every step, for a
        progress bar."""
        self.resume()
        p, together = self.progress, self.config.accumulate
        while not self.over(p.epoch, p.since_best):
            plan = self.task.plan(p.epoch)
            self.model.train()
            for start in range(p.batch, len(plan), together):
                self.step(plan[start : start + together], p.epoch + start / len(plan))
                tick(p, math.ceil(len(plan) / together))
                if time.monotonic() - self.saved >= self.save_seconds:
                    self.save()
            self.end_epoch()
        self.save()
        self.choose_weights()
        return p

    def step(self, planned: Sequence[Any], epochs_done: float) -> None:
        """One update, from all of the planned batches."""
        p, clip = self.progress, self.optim_config.clip_norm
        p.step += 1
        p.batch += len(planned)
        rate = optim.rate(self.optim_config, p.step, epochs_done, self.config.max_epochs)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        nats, tokens = self.gradient(planned)
        norm = sparse.clip(self.model.parameters(), clip)
        if not (math.isfinite(nats) and math.isfinite(norm)):
            raise UserError(
                f"training: got a loss of {nats / tokens} with gradient norm {norm} at step "
                f"{p.step}, learning rate "
                f"{rate:g}; expected finite numbers. Lower optim.learning_rate or optim.clip_norm. "
                f"The batch was {'; '.join(self.task.describe(one) for one in planned)}."
            )
        self.optimizer.step()
        p.nats += nats
        p.tokens += tokens
        if p.step % LOG_STEPS == 0:
            self.record(
                {"train/loss": p.nats / p.tokens, "learning_rate": rate, "gradient_norm": norm}
            )
            p.nats, p.tokens = 0.0, 0

    def gradient(self, planned: Sequence[Any]) -> tuple[float, int]:
        """Leave in the parameters the gradient of the mean loss over all tokens of the batches, as
        of one large batch; but batch norm normalises each of them by itself.

        Returns the summed loss in nats, and the tokens.
        """
        nats, tokens, first = 0.0, 0, 0
        for number, one in self.group.local_batches(planned):
            torch.manual_seed(derive(self.seed, f"step {self.progress.step}, batch {number}"))
            with self.arithmetic():
                loss, self.carry = self.task.loss(self.model, self.task.batch(one), self.carry)
            first = first or loss.tokens  # the sum of all tokens is not known yet
            (loss.total / first).backward()  # type: ignore[no-untyped-call]
            nats += float(loss.total.detach())
            tokens += loss.tokens
        if self.group.size > 1:
            self.refuse_carry()
            self.scale(first)
            nats, tokens = self.group.sum_gradients(self.model.parameters(), nats, tokens)
            self.scale(1 / tokens)
        elif tokens != first:
            self.scale(first / tokens)
        return nats, tokens

    def scale(self, factor: float) -> None:
        """Multiply all gradients."""
        for parameter in self.model.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(factor)

    def refuse_carry(self) -> None:
        if self.carry is not None:
            got = f"{self.group.size} with a task that carries its state from batch to batch"
            raise refuse("compute.processes", got, "1", "Or set objective.sampling to random.")

    def end_epoch(self) -> None:
        """Validate; keep the weights if they are the best so far, or may be averaged."""
        p, last = self.progress, self.config.average
        p.epoch, p.batch, self.carry = p.epoch + 1, 0, None
        loss = self.validate("")
        p.since_best += 1
        if loss < p.best_loss:
            p.best_loss, p.best_step, p.since_best = loss, p.step, 0
            if last is None and self.group.is_first:
                saved.save(self.work / BEST, checkpoint.unique_tensors(self.model), {})
        if last is not None and self.group.is_first:
            averaging.save_epoch(self.work, p.epoch, last, checkpoint.unique_tensors(self.model))

    def validate(self, kind: str) -> float:
        """The validation loss in nats per token of the weights that the model holds; recorded,
        `kind` before its name."""
        p = self.progress
        self.model.eval()
        loss, further = self.group.broadcast(self.validated)
        if not math.isfinite(loss):
            raise UserError(
                f"training: got a validation loss of {loss} after epoch {p.epoch}, step "
                f"{p.step}; expected a finite number. "
                "Lower optim.learning_rate or optim.clip_norm."
            )
        measured = {"loss": loss, "perplexity": math.exp(min(loss, 700.0))} | further
        self.record({f"valid/{kind}{name}": value for name, value in measured.items()})
        return loss

    def validated(self) -> tuple[float, dict[str, float]]:
        """The validation loss and the figures beside it."""
        with self.arithmetic():
            (total, tokens), further = self.task.validate(self.model)
        return float(total) / tokens, further

    def choose_weights(self) -> None:
        """Put into the model the weights of the best epoch, or the mean of the last ones, which is
        validated as well.

        Of several processes only the first one's model is what comes of the training.
        """
        p, last = self.progress, self.config.average
        if self.group.is_first:
            checkpoint.copy_weights(self.model, self.kept_weights(), str(self.work))
        if last is not None:
            p.best_loss, p.best_step = self.validate("averaged_"), p.step

    def kept_weights(self) -> dict[str, Tensor]:
        """The best epoch's weights, or the mean of the last ones'; UserError if they were damaged
        while training."""
        try:
            if self.config.average is None:
                return saved.load(self.work / BEST)[0]
            return averaging.mean(self.work, self.progress.epoch, self.config.average)
        except saved.DamagedFile as error:
            saved.remove(self.work)
            raise UserError(
                f"training: {error}, which this training wrote. Run again: it starts afresh."
            ) from error

    def record(self, metrics: dict[str, float]) -> None:
        p = self.progress
        p.history += [(p.step, p.epoch, name, value) for name, value in metrics.items()]
        if self.group.is_first:
            self.log(metrics, p.step)

    def over(self, epoch: int, since_best: int) -> bool:
        """Return whether the training ends after this epoch: it is the last one, or patience is
        out."""
        waited = self.config.patience is not None and since_best >= self.config.patience
        return epoch >= self.config.max_epochs or waited

    def arithmetic(self) -> AbstractContextManager[Any]:
        if self.config.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def save(self) -> None:
        """Everything that the next step depends on."""
        if not self.group.is_first:
            return
        tensors = {
            f"model/{name}": tensor
            for name, tensor in checkpoint.unique_tensors(self.model).items()
        }
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {
                f"optimizer/{index}/{name}": value
                for name, value in state.items()
                if value is not None
            }
        tensors |= {f"carry/{i}": part for i, part in enumerate(self.carry or ())}
        facts = {name: getattr(self.progress, name) for name in Progress.__dataclass_fields__}
        saved.save(self.work / STATE, tensors, facts)
        self.saved = time.monotonic()

    def resume(self) -> None:
        """Go on from the work folder's state, if there is one."""
        state = self.group.broadcast_state(self.load)
        if state is None:
            return
        tensors, facts = state
        groups: dict[str, dict[str, Tensor]] = {"model": {}, "optimizer": {}, "carry": {}}
        for name, tensor in tensors.items():
            group, _, rest = name.partition("/")
            groups[group][rest] = tensor
        checkpoint.copy_weights(self.model, groups["model"], str(self.work))
        self.restore_optimizer(groups["optimizer"])
        self.carry = (
            tuple(groups["carry"][str(i)].to(self.device) for i in range(len(groups["carry"])))
            or None
        )
        self.progress = Progress(**(facts | {"history": [tuple(row) for row in facts["history"]]}))

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The saved state, if there is one and all files that belong to it are intact; damaged ones
        are removed."""
        self.work.mkdir(parents=True, exist_ok=True)
        if not os.path.lexists(self.work / STATE):
            return None
        try:
            tensors, facts = saved.load(self.work / STATE)
            epoch, last = facts["epoch"], self.config.average
            if last is not None:
                averaging.check(self.work, epoch, last, self.over(epoch, facts["since_best"]))
            elif facts["best_step"]:
                saved.load(self.work / BEST)
        except saved.DamagedFile as error:
            print(
                f"seqline: {error}: the training starts afresh, as its saved state cannot be used.",
                file=sys.stderr,
            )
            saved.remove(self.work)
            return None
        return tensors, facts

    def restore_optimizer(self, tensors: dict[str, Tensor]) -> None:
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            index, _, key = name.partition("/")
            state.setdefault(int(index), {})[key] = tensor
        self.optimizer.load_state_dict(
            {"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]}
        )
