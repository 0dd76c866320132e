"""Several processes that train one model together, on one machine or on many (torch.distributed).

An update reads `training.accumulate` batches. With several processes each computes some of them and the gradients are
summed, so that every process makes the same update and the result is one process's but for rounding: dropout included, as
each batch has a random stream of its own. Batch norm is not, and is refused: what it keeps of the batches that it has seen
would differ from process to process. Only the first process validates, logs and writes.
"""

import logging
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import distributed, nn

from pipeline.errors import refuse

T = TypeVar("T")
_LAUNCHER = "SEQLINE_LAUNCHER"  # in the environment of the processes that `launch` starts: its own number


@dataclass(frozen=True, slots=True)
class Group:
    """The processes of a training, of which this one is number `rank` of `size`."""

    rank: int
    size: int

    @property
    def first(self) -> bool:
        return self.rank == 0

    def own(self, planned: Sequence[T]) -> list[tuple[int, T]]:
        """This process's share of an update's batches, each with its number among all of them."""
        return list(enumerate(planned))[self.rank :: self.size]

    def from_first(self, found: Callable[[], T]) -> T:
        """What `found` returns in the first process, which alone calls it."""
        if self.size == 1:
            return found()
        told: list[T | None] = [found() if self.first else None]
        distributed.broadcast_object_list(told, src=0)  # pickled, but by this training's own processes
        return told[0]  # type: ignore[return-value]

    def total(self, parameters: Iterable[nn.Parameter], nats: float, tokens: int) -> tuple[float, int]:
        """Sum the gradients, and the loss and the number of tokens that they are of, over all processes."""
        own = [parameter for parameter in parameters if parameter.requires_grad]
        device = own[0].device
        has = torch.tensor([parameter.grad is not None for parameter in own], dtype=torch.float32, device=device)
        sums = torch.tensor([nats, float(tokens)], dtype=torch.float64, device=device)
        distributed.all_reduce(has)
        distributed.all_reduce(sums)
        used = [parameter for parameter, count in zip(own, has.tolist(), strict=True) if count]
        if not used:
            return float(sums[0]), int(sums[1])
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in used]
        together = torch.cat([gradient.flatten() for gradient in gradients])  # one exchange costs less than many
        distributed.all_reduce(together)
        for parameter, part in zip(used, together.split_with_sizes([p.numel() for p in used]), strict=True):
            parameter.grad = part.view_as(parameter)
        return float(sums[0]), int(sums[1])

    def same(self, told: str) -> bool:
        """Whether every process tells the same."""
        if self.size == 1:
            return True
        every: list[str | None] = [None] * self.size
        distributed.all_gather_object(every, told)
        return len(set(every)) == 1

    def wait(self) -> None:
        """Until every process is here."""
        if self.size > 1:
            distributed.barrier()


ALONE = Group(0, 1)


def processes(wanted: int, accumulate: int) -> int:
    """How many of the `wanted` processes can share the batches of an update evenly."""
    return math.gcd(wanted, accumulate)


def check(model: nn.Module, processes: int) -> None:
    """Refuse to share a model among processes whose result would not be one process's."""
    if processes > 1 and any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in model.modules()):
        raise refuse("compute.processes", processes, "1, as this model's batch norm keeps figures of the batches it sees")


def launched() -> bool:
    """Whether torchrun, or `launch`, has started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def launch(count: int, module: str) -> int:
    """Run this command again as so many processes on this machine; the first exit status that is not 0, or 0."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # the processes have said what was wrong
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=str(os.getpid()),
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
    )
    os.environ[_LAUNCHER] = str(os.getpid())
    try:
        elastic_launch(config, sys.executable)("-m", module, *sys.argv[1:])
    except ChildFailedError as error:
        return next(failure.exitcode for failure in error.failures.values()) or 1
    return 0


def join(device: str, accumulate: int) -> tuple[Group, str]:
    """This process's group, and the device that is its own; alone unless torchrun has started it."""
    if not launched():
        return ALONE, device
    group = Group(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    if accumulate % group.size:
        todo = f"Set it to {group.size}, or start fewer processes."
        raise refuse("training.accumulate", accumulate, f"a multiple of torchrun's {group.size} processes", todo)
    if "TORCHELASTIC_RUN_ID" in os.environ:  # the parent is torchrun or `launch`: without it this process is an orphan
        launcher = int(os.environ.get(_LAUNCHER, os.getppid()))  # which may have died before this process came so far
        threading.Thread(target=_leave_with, args=(launcher,), daemon=True).start()
    on_cuda = device in ("auto", "cuda") and torch.cuda.is_available()
    distributed.init_process_group("nccl" if on_cuda else "gloo")
    return group, f"cuda:{os.environ['LOCAL_RANK']}" if on_cuda else device


def leave() -> None:
    """End what `join` began."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def _leave_with(launcher: int) -> None:
    while os.getppid() == launcher:
        time.sleep(0.5)
    os._exit(1)
