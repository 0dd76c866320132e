"""Training loop for any task and any model; resumed at any step, it gives the same bits.

The state of a run lives in its work folder. It is written every 20 seconds and at the end of
training, always whole, and holds all that the next step depends on. `SEQLINE_SAVE_SECONDS` sets
another interval, which changes no result: fewer seconds on a preemptible machine, more where states
are large."""

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

from pipeline.contracts import Constrained, Log, Task
from pipeline.core.errors import UserError, at_least_one, refuse
from pipeline.core.seeding import derive
from pipeline.training import averaging, checkpoint, devices, optim, parallel, resume_state, sparse

LOG_STEPS = 10
STATE = "state.safetensors"
BEST = "best.safetensors"


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """Block `training:` of a run.

    - `patience`: epochs without a better validation loss before stopping; null never stops early.
    - `accumulate`: batches per update.
    - `average`: number of last epochs whose weights are averaged in the end; null takes the weights
      of the best validation loss instead.
    - `precision` and `threads` change the bits of the result, so they belong to the run.
    """

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
    """State of a training besides the tensors: all that the next step depends on, JSON-able."""

    step: int = 0
    epoch: int = 0
    batch: int = 0  # finished batches of the epoch
    best_loss: float = math.inf
    best_step: int = 0
    since_best: int = 0  # epochs since the best validation loss
    nats: float = 0.0  # summed loss since the last record of train/loss
    tokens: int = 0  # tokens of this sum
    # rows of step, epoch, metric, value
    history: list[tuple[int, int, str, float]] = field(default_factory=list)


class Loop:
    """Train `model` on `task`.

    Afterwards the model holds the best weights, or the mean of the last ones, as `config` says.
    """

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
        self.model = model
        self.task = task
        self.config = config
        self.seed = seed
        self.work = work
        self.log = log
        self.group = group
        self.device = next(model.parameters()).device

        self.optim_config = optim_config
        self.optimizer = optim.optimizer(optim_config, model.parameters())
        sparse.check(model, self.optimizer, group.size)
        parallel.check(model, group.size)

        self.progress = Progress()
        # carried from batch to batch by tasks with a recurrent state, else None
        self.hidden_state: tuple[Tensor, ...] | None = None
        self.last_save = time.monotonic()
        self.save_seconds = resume_state.save_seconds()

    def run(self, on_step: Callable[[Progress, int], None]) -> Progress:
        """Train to the end; return the progress.

        `on_step(progress, steps per epoch)` is called after every step, for a progress bar.
        """
        self.resume()
        progress = self.progress
        accumulate = self.config.accumulate

        while not self.is_finished(progress.epoch, progress.since_best):
            plan = self.task.plan(progress.epoch)
            steps_per_epoch = math.ceil(len(plan) / accumulate)
            self.model.train()

            for start in range(progress.batch, len(plan), accumulate):
                self.step(plan[start : start + accumulate], progress.epoch + start / len(plan))
                on_step(progress, steps_per_epoch)
                if time.monotonic() - self.last_save >= self.save_seconds:
                    self.save()
            self.end_epoch()

        self.save()
        self.load_final_weights()
        return progress

    def step(self, planned: Sequence[Any], epochs: float) -> None:
        """Make one update from all of the planned batches, which begins after `epochs` epochs."""
        progress = self.progress
        progress.step += 1
        progress.batch += len(planned)

        rate = optim.rate(self.optim_config, progress.step, epochs, self.config.max_epochs)
        for param_group in self.optimizer.param_groups:
            param_group["lr"] = rate

        self.optimizer.zero_grad(set_to_none=True)
        nats, tokens = self.gradient(planned)
        norm = sparse.clip(self.model.parameters(), self.optim_config.clip_norm)

        # Stop at the first NaN or infinity: one update with it would destroy the weights.
        if not (math.isfinite(nats) and math.isfinite(norm)):
            raise UserError(
                f"training: got a loss of {nats / tokens} with gradient norm {norm} at step "
                f"{progress.step}, learning rate {rate:g}; expected finite numbers. "
                "Lower optim.learning_rate or optim.clip_norm. "
                f"The batch was {'; '.join(self.task.describe(batch) for batch in planned)}."
            )
        self.optimizer.step()
        if isinstance(self.model, Constrained):
            self.model.constrain()

        progress.nats += nats
        progress.tokens += tokens
        if progress.step % LOG_STEPS == 0:
            loss = progress.nats / progress.tokens
            self.record({"train/loss": loss, "learning_rate": rate, "gradient_norm": norm})
            progress.nats = 0.0
            progress.tokens = 0

    def gradient(self, planned: Sequence[Any]) -> tuple[float, int]:
        """Leave in the parameters the gradient of the mean loss over all tokens of the batches.

        It is that of one large batch, except that batch norm normalises each batch by itself.
        Returns the summed loss in nats, and the number of tokens.
        """
        nats = 0.0
        tokens = 0
        first = 0  # tokens of the first batch

        for number, planned_batch in self.group.local_batches(planned):
            # A seed per batch: dropout then depends neither on the process nor on a restart.
            devices.seed(
                derive(self.seed, f"step {self.progress.step}, batch {number}"), self.device
            )
            batch = self.task.batch(planned_batch)
            with self.autocast():
                loss, self.hidden_state = self.task.loss(self.model, batch, self.hidden_state)
            # The number of all tokens is not known yet: divide by the first batch's, scale below.
            first = first or loss.tokens
            (loss.total / first).backward()  # type: ignore[no-untyped-call]
            nats += float(loss.total.detach())
            tokens += loss.tokens

        if self.group.size > 1:
            self.refuse_hidden_state()
            self.scale_gradients(first)
            nats, tokens = self.group.sum_gradients(self.model.parameters(), nats, tokens)
            self.scale_gradients(1 / tokens)
        elif tokens != first:
            self.scale_gradients(first / tokens)
        return nats, tokens

    def scale_gradients(self, factor: float) -> None:
        """Multiply all gradients by `factor`."""
        for parameter in self.model.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(factor)

    def refuse_hidden_state(self) -> None:
        """UserError if the task carries a state: the next batch may be another process's."""
        if self.hidden_state is not None:
            got = f"{self.group.size} with a task that carries its state from batch to batch"
            raise refuse("compute.processes", got, "1", "Or set objective.sampling to random.")

    def end_epoch(self) -> None:
        """Validate; keep the weights if they are the best so far, or may be averaged."""
        progress = self.progress
        average = self.config.average
        progress.epoch += 1
        progress.batch = 0
        self.hidden_state = None

        loss = self.validate("")
        progress.since_best += 1
        if loss < progress.best_loss:
            progress.best_loss = loss
            progress.best_step = progress.step
            progress.since_best = 0
            if average is None and self.group.is_first:
                resume_state.save(self.work / BEST, checkpoint.unique_tensors(self.model), {})

        if average is not None and self.group.is_first:
            tensors = checkpoint.unique_tensors(self.model)
            averaging.save_epoch(self.work, progress.epoch, average, tensors)

    def validate(self, prefix: str) -> float:
        """Validate the weights that the model holds; return the loss in nats per token.

        The metrics are recorded, with `prefix` before their names.
        """
        progress = self.progress
        self.model.eval()
        loss, metrics = self.group.broadcast(self.validation_loss)
        if not math.isfinite(loss):
            raise UserError(
                f"training: got a validation loss of {loss} after epoch {progress.epoch}, step "
                f"{progress.step}; expected a finite number. "
                "Lower optim.learning_rate or optim.clip_norm."
            )

        # exp(709.8) is the largest float
        perplexity = math.exp(min(loss, 700.0))
        metrics = {"loss": loss, "perplexity": perplexity} | metrics
        self.record({f"valid/{prefix}{name}": value for name, value in metrics.items()})
        return loss

    def validation_loss(self) -> tuple[float, dict[str, float]]:
        """Compute the validation loss in nats per token, and the task's further metrics."""
        with self.autocast():
            (total, tokens), metrics = self.task.validate(self.model)
        return float(total) / tokens, metrics

    def load_final_weights(self) -> None:
        """Put into the model the weights of the best epoch, or the mean of the last ones.

        The mean is validated as well. Of several processes only the first one's model is the
        result of the training.
        """
        if self.group.is_first:
            checkpoint.copy_weights(self.model, self.final_weights(), str(self.work))
        if self.config.average is not None:
            self.progress.best_loss = self.validate("averaged_")
            self.progress.best_step = self.progress.step

    def final_weights(self) -> dict[str, Tensor]:
        """Load the best epoch's weights, or average the last ones'.

        UserError if the files were damaged while training.
        """
        try:
            if self.config.average is None:
                return resume_state.load(self.work / BEST)[0]
            return averaging.mean(self.work, self.progress.epoch, self.config.average)
        except resume_state.DamagedFile as error:
            resume_state.remove(self.work)
            raise UserError(f"training: {error}. Run again to train from the beginning.") from error

    def record(self, metrics: dict[str, float]) -> None:
        """Add metrics to the history, and log them."""
        progress = self.progress
        progress.history += [
            (progress.step, progress.epoch, name, value) for name, value in metrics.items()
        ]
        if self.group.is_first:
            self.log(metrics, progress.step)

    def is_finished(self, epoch: int, since_best: int) -> bool:
        """Return whether training ends after this epoch: the last one, or no patience is left."""
        # Early stopping: Prechelt 1998.
        patience = self.config.patience
        is_out_of_patience = patience is not None and since_best >= patience
        return epoch >= self.config.max_epochs or is_out_of_patience

    def autocast(self) -> AbstractContextManager[Any]:
        """Mixed precision (Micikevicius et al. 2018): bfloat16 needs no loss scaling."""
        if self.config.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def save(self) -> None:
        """Write everything that the next step depends on."""
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
        tensors |= {f"carry/{i}": part for i, part in enumerate(self.hidden_state or ())}

        # No random states: every batch is planned and seeded by its number.
        metadata = {name: getattr(self.progress, name) for name in Progress.__dataclass_fields__}
        resume_state.save(self.work / STATE, tensors, metadata)
        self.last_save = time.monotonic()

    def resume(self) -> None:
        """Resume from the state in the work folder, if there is one."""
        state = self.group.broadcast_state(self.load)
        if state is None:
            return
        tensors, metadata = state

        groups: dict[str, dict[str, Tensor]] = {"model": {}, "optimizer": {}, "carry": {}}
        for name, tensor in tensors.items():
            group, _, rest = name.partition("/")
            groups[group][rest] = tensor
        checkpoint.copy_weights(self.model, groups["model"], str(self.work))
        self.restore_optimizer(groups["optimizer"])

        carried = groups["carry"]
        hidden_state = tuple(carried[str(i)].to(self.device) for i in range(len(carried)))
        self.hidden_state = hidden_state or None

        # JSON has no tuples
        history = [tuple(row) for row in metadata["history"]]
        self.progress = Progress(**(metadata | {"history": history}))

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Load the saved state, or None if there is none.

        If one of the files that belong to it is damaged, all are removed.
        """
        self.work.mkdir(parents=True, exist_ok=True)
        if not os.path.lexists(self.work / STATE):
            return None
        try:
            tensors, metadata = resume_state.load(self.work / STATE)
            epoch = metadata["epoch"]
            average = self.config.average
            if average is not None:
                is_last = self.is_finished(epoch, metadata["since_best"])
                averaging.check(self.work, epoch, average, is_last)
            elif metadata["best_step"]:
                resume_state.load(self.work / BEST)
        except resume_state.DamagedFile as error:
            print(
                f"seqline: {error}: the training starts afresh, as its saved state cannot be used.",
                file=sys.stderr,
            )
            resume_state.remove(self.work)
            return None
        return tensors, metadata

    def restore_optimizer(self, tensors: dict[str, Tensor]) -> None:
        """Load the optimiser's state from tensors called `<parameter's index>/<name>`."""
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            index, _, key = name.partition("/")
            state.setdefault(int(index), {})[key] = tensor
        # param_groups hold settings, which are the run's and not the file's
        self.optimizer.load_state_dict(
            {"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]}
        )
