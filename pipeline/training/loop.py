"""The one training loop: any task, any model, resumable at any step to the same bits.

A run's state lives in a work folder; it is written every `SAVE_SECONDS` and at the end of training, always whole, and holds
all that the next step depends on. How often it is written changes no result.
"""

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pipeline.contracts import Log, Loss, Task
from pipeline.errors import UserError, refuse
from pipeline.training import checkpoint, optim, sparse

LOG_STEPS = 10
SAVE_SECONDS = 20.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`training:` of a run. `patience`: epochs without a better validation loss before stopping; null never stops early.

    `precision` and `threads` change the bits of the result, so they belong to the run.
    """

    max_epochs: int
    patience: int | None
    precision: Literal["float32", "bfloat16"]
    threads: int

    def __post_init__(self) -> None:
        if min(self.max_epochs, self.threads) < 1:
            raise refuse("max_epochs", f"{self.max_epochs} with threads {self.threads}", "both at least 1")
        if self.patience is not None and self.patience < 1:
            raise refuse("patience", self.patience, "at least 1, or null")


@dataclass
class Progress:
    """Where training stands, beside the weights: everything JSON-able that the next step depends on."""

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
    """Train `model` on `task`; afterwards the model holds the weights of the best validation loss."""

    def __init__(
        self, model: nn.Module, task: Task, optim_config: optim.Config, config: Config, *, seed: int, work: Path, log: Log
    ) -> None:
        self.model, self.task, self.optim_config, self.config = model, task, optim_config, config
        self.optimizer = optim.optimizer(optim_config, model.parameters())
        sparse.check(model, self.optimizer)
        self.device = next(model.parameters()).device
        self.work, self.log = work, log
        self.progress = Progress()
        self.carry: tuple[Tensor, ...] | None = None
        self.saved = time.monotonic()
        torch.manual_seed(seed)

    def run(self, tick: Callable[[Progress, int], None]) -> Progress:
        """Train to the end; `tick(progress, batches)` is called after every step, for a progress bar."""
        self.resume()
        p = self.progress
        while p.epoch < self.config.max_epochs and not self.out_of_patience():
            plan = self.task.plan(p.epoch)
            self.model.train()
            for planned in plan[p.batch :]:
                self.step(planned, p.epoch + p.batch / len(plan))
                tick(p, len(plan))
                if time.monotonic() - self.saved > SAVE_SECONDS:
                    self.save()
            self.end_epoch()
        self.save()
        checkpoint.fill(self.model, checkpoint.load(self.work / "best.safetensors")[0], str(self.work))
        return p

    def step(self, planned: Any, epochs_done: float) -> None:
        """One update."""
        p, clip = self.progress, self.optim_config.clip_norm
        p.step += 1
        p.batch += 1
        rate = optim.rate(self.optim_config, p.step, epochs_done / self.config.max_epochs)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        with self.arithmetic():
            loss, self.carry = self.task.loss(self.model, self.task.batch(planned), self.carry)
        (loss.total / loss.tokens).backward()  # type: ignore[no-untyped-call]
        norm = sparse.clip(self.model.parameters(), clip)
        nats = float(loss.total.detach())
        if not (math.isfinite(nats) and math.isfinite(norm)):
            raise UserError(
                f"training: got a loss of {nats / loss.tokens} with gradient norm {norm} at step {p.step}, learning rate "
                f"{rate:g}; expected finite numbers. Lower optim.learning_rate or optim.clip_norm. "
                f"The batch was {self.task.describe(planned)}."
            )
        self.optimizer.step()
        p.nats += nats
        p.tokens += loss.tokens
        if p.step % LOG_STEPS == 0:
            self.record({"train/loss": p.nats / p.tokens, "learning_rate": rate, "gradient_norm": norm})
            p.nats, p.tokens = 0.0, 0

    def end_epoch(self) -> None:
        """Validate; keep the weights if they are the best so far."""
        p = self.progress
        p.epoch, p.batch, self.carry = p.epoch + 1, 0, None
        self.model.eval()
        with self.arithmetic():
            valid: Loss = self.task.validate(self.model)
        loss = float(valid.total) / valid.tokens
        if not math.isfinite(loss):
            raise UserError(
                f"training: got a validation loss of {loss} after epoch {p.epoch}, step {p.step}; expected a finite number. "
                "Lower optim.learning_rate or optim.clip_norm."
            )
        self.record({"valid/loss": loss, "valid/perplexity": math.exp(min(loss, 700.0))})
        p.since_best += 1
        if loss < p.best_loss:
            p.best_loss, p.best_step, p.since_best = loss, p.step, 0
            checkpoint.save(self.work / "best.safetensors", checkpoint.own_tensors(self.model), {})

    def record(self, metrics: dict[str, float]) -> None:
        p = self.progress
        p.history += [(p.step, p.epoch, name, value) for name, value in metrics.items()]
        self.log(metrics, p.step)

    def out_of_patience(self) -> bool:
        return self.config.patience is not None and self.progress.since_best >= self.config.patience

    def arithmetic(self) -> AbstractContextManager[Any]:
        if self.config.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def save(self) -> None:
        """Everything that the next step depends on."""
        tensors = {f"model/{name}": tensor for name, tensor in checkpoint.own_tensors(self.model).items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{index}/{name}": value for name, value in state.items() if value is not None}
        tensors |= {f"carry/{i}": part for i, part in enumerate(self.carry or ())}
        tensors["random/cpu"] = torch.get_rng_state()
        if self.device.type == "cuda":
            tensors["random/cuda"] = torch.cuda.get_rng_state(self.device)
        facts = {name: getattr(self.progress, name) for name in Progress.__dataclass_fields__}
        checkpoint.save(self.work / "state.safetensors", tensors, facts)
        self.saved = time.monotonic()

    def resume(self) -> None:
        """Go on from the work folder's state, if there is one."""
        self.work.mkdir(parents=True, exist_ok=True)
        if not (self.work / "state.safetensors").exists():
            return
        tensors, facts = checkpoint.load(self.work / "state.safetensors")
        groups: dict[str, dict[str, Tensor]] = {"model": {}, "optimizer": {}, "carry": {}, "random": {}}
        for name, tensor in tensors.items():
            group, _, rest = name.partition("/")
            groups[group][rest] = tensor
        checkpoint.fill(self.model, groups["model"], str(self.work))
        self.restore_optimizer(groups["optimizer"])
        self.carry = tuple(groups["carry"][str(i)].to(self.device) for i in range(len(groups["carry"]))) or None
        torch.set_rng_state(groups["random"]["cpu"])
        if "cuda" in groups["random"]:
            torch.cuda.set_rng_state(groups["random"]["cuda"], self.device)
        self.progress = Progress(**(facts | {"history": [tuple(row) for row in facts["history"]]}))

    def restore_optimizer(self, tensors: dict[str, Tensor]) -> None:
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            index, _, key = name.partition("/")
            state.setdefault(int(index), {})[key] = tensor
        self.optimizer.load_state_dict({"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]})
