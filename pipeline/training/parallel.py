"""Several processes that train one model together, on one machine or on many (torch.distributed).

An update reads `training.accumulate` batches. With several processes each computes some of them and
the gradients are summed, so that every process makes the same update and the result is one
process's but for rounding: dropout included, as each batch has a random stream of its own. Batch
norm is not, and is refused: what it keeps of the batches that it has seen would differ from process
to process. Only the first process validates, logs and writes.

Processes on one machine meet through a file in a private folder and talk over the loopback
interface: nothing listens on the network. What they exchange is JSON and raw tensors, so nothing is
unpickled. Processes that a user starts with torchrun meet through torchrun's own store, which is
unauthenticated (docs/architecture.md)."""

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

from pipeline.core.errors import UserError, exhausted, refuse, told
from pipeline.training import launcher

T = TypeVar("T")
State = tuple[dict[str, Tensor], dict[str, Any]]


class PeerLost(UserError):
    """Another process of the training has ended, and this one cannot go on."""


@dataclass(frozen=True, slots=True)
class Group:
    """The processes of a training, of which this one is number `rank` of `size`."""

    rank: int
    size: int

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def local_batches(self, planned: Sequence[T]) -> list[tuple[int, T]]:
        """This process's share of an update's batches, each with its number among all of them."""
        return list(enumerate(planned))[self.rank :: self.size]

    def broadcast(self, compute: Callable[[], T]) -> T:
        """Call `compute` in the first process alone; return its JSON-able result in all (a tuple
        arrives as a list)."""
        if self.size == 1:
            return compute()
        content = json.dumps(compute()).encode() if self.is_first else b""
        received: T = json.loads(self._bytes_from_first(content))
        return received

    def broadcast_state(self, load: Callable[[], State | None]) -> State | None:
        """Call `load` in the first process alone; return its named tensors and JSON-able facts, or
        None, in all."""
        if self.size == 1:
            return load()
        state = load() if self.is_first else None
        head: dict[str, Any] | None = None
        if state is not None:
            shapes = {
                name: (str(t.dtype).removeprefix("torch."), list(t.shape))
                for name, t in state[0].items()
            }
            head = {"facts": state[1], "shapes": shapes}
        head = self.broadcast(lambda: head)
        if head is None:
            return None
        tensors: dict[str, Tensor] = {}
        for name, (dtype, shape) in head["shapes"].items():
            tensor = (
                state[0][name].contiguous()
                if state is not None
                else torch.empty(shape, dtype=getattr(torch, dtype))
            )
            with _peers():
                distributed.broadcast(tensor, src=0)
            tensors[name] = tensor
        return tensors, head["facts"]

    def _bytes_from_first(self, content: bytes) -> bytes:
        """The first process's `content`, its length first."""
        size = torch.tensor([len(content)])
        with _peers():
            distributed.broadcast(size, src=0)
            data = torch.zeros(int(size), dtype=torch.uint8)
            if self.is_first:
                data = torch.frombuffer(bytearray(content), dtype=torch.uint8)
            distributed.broadcast(data, src=0)
        return data.numpy().tobytes()

    def sum_gradients(
        self, parameters: Iterable[nn.Parameter], nats: float, tokens: int
    ) -> tuple[float, int]:
        """Sum the gradients, and the loss and the number of tokens that they are of, over all
        processes."""
        own = [parameter for parameter in parameters if parameter.requires_grad]
        device = own[0].device
        has = torch.tensor(
            [parameter.grad is not None for parameter in own], dtype=torch.float32, device=device
        )
        sums = torch.tensor([nats, float(tokens)], dtype=torch.float64, device=device)
        with _peers():
            distributed.all_reduce(has)
            distributed.all_reduce(sums)
        used = [parameter for parameter, count in zip(own, has.tolist(), strict=True) if count]
        if not used:
            return float(sums[0]), int(sums[1])
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in used]
        # one exchange costs less than many
        together = torch.cat([gradient.flatten() for gradient in gradients])
        with _peers():
            distributed.all_reduce(together)
        for parameter, part in zip(
            used, together.split_with_sizes([p.numel() for p in used]), strict=True
        ):
            parameter.grad = part.view_as(parameter)
        return float(sums[0]), int(sums[1])

    def all_equal(self, text: str) -> bool:
        """Return whether every process passes the same text."""
        if self.size == 1:
            return True
        equal = torch.tensor([self.broadcast(lambda: text) == text], dtype=torch.int32)
        with _peers():
            distributed.all_reduce(equal, distributed.ReduceOp.MIN)
        return bool(equal)


@contextmanager
def _peers() -> Iterator[None]:
    """An exchange with the other processes; PeerLost if one of them is gone."""
    try:
        yield
    except RuntimeError as error:
        if exhausted(error):
            raise
        line = (
            f"training: lost another process of this training ({told(error)[:200]}). See "
            "what it says, and run again."
        )
        raise PeerLost(line) from error


SINGLE_PROCESS = Group(0, 1)


def process_count(wanted: int, accumulate: int) -> int:
    """Number of the `wanted` processes that can share the batches of an update evenly."""
    return math.gcd(wanted, accumulate)


def check(model: nn.Module, processes: int) -> None:
    """Refuse to share a model among processes whose result would not be one process's."""
    if processes > 1 and any(
        isinstance(part, nn.modules.batchnorm._BatchNorm) for part in model.modules()
    ):
        raise refuse(
            "compute.processes",
            processes,
            "1, as this model's batch norm keeps figures of the batches it sees",
        )


def join(device: str, accumulate: int) -> tuple[Group, str]:
    """This process's group, and the device that is its own; alone unless `launcher` or torchrun has
    started it."""
    if not launcher.is_launched():
        return SINGLE_PROCESS, device
    group = Group(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    if accumulate % group.size:
        todo = f"Set it to {group.size}, or start fewer processes."
        raise refuse(
            "training.accumulate",
            accumulate,
            f"a multiple of torchrun's {group.size} processes",
            todo,
        )
    launcher.exit_with_parent()
    on_cuda = device in ("auto", "cuda") and torch.cuda.is_available()
    # what is not a gradient is exchanged on the CPU
    backend = "cpu:gloo,cuda:nccl" if on_cuda else "gloo"
    folder = launcher.private_folder()
    with _peers():
        if folder is None:
            distributed.init_process_group(backend)
        else:
            store = distributed.FileStore(str(folder / "store"), group.size)  # type: ignore[attr-defined]
            distributed.init_process_group(
                backend, store=store, rank=group.rank, world_size=group.size
            )
    return group, f"cuda:{os.environ['LOCAL_RANK']}" if on_cuda else device


def leave() -> None:
    """End what `join` began."""
    if distributed.is_initialized():
        distributed.destroy_process_group()
