"""Train one model in several processes, on one machine or on many (torch.distributed).

This is synchronous data parallelism (d2l section 13.5). An update reads `training.accumulate`
batches. Each process computes some of them, and the gradients are summed. Every process therefore
makes the same update, and but for rounding it is the one that a single process would make. Dropout
is the same too, as each batch has its own random stream. Batch norm is refused: its running
statistics would differ from process to process. Only the first process validates, logs and writes.

Processes on one machine meet through a file in a private folder and talk over the loopback
interface: nothing listens on the network. They exchange JSON and raw tensors, so nothing is
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

from pipeline.core.errors import UserError, describe_error, exhausted, refuse
from pipeline.training import launcher

T = TypeVar("T")
State = tuple[dict[str, Tensor], dict[str, Any]]


class PeerLost(UserError):
    """Another process of the training has ended, so this one cannot continue."""


@dataclass(frozen=True, slots=True)
class Group:
    """The processes of a training; this one is number `rank` of `size`."""

    rank: int
    size: int

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def local_batches(self, planned: Sequence[T]) -> list[tuple[int, T]]:
        """This process's share of an update's batches, each with its number among all of them."""
        # round-robin; `join` ensures that the shares are of one size
        return list(enumerate(planned))[self.rank :: self.size]

    def broadcast(self, compute: Callable[[], T]) -> T:
        """Call `compute` in the first process only; return its JSON-able result in all.

        A tuple arrives as a list.
        """
        if self.size == 1:
            return compute()
        content = json.dumps(compute()).encode() if self.is_first else b""
        received: T = json.loads(self._broadcast_bytes(content))
        return received

    def broadcast_state(self, load: Callable[[], State | None]) -> State | None:
        """Call `load` in the first process only; return its tensors and metadata, or None, in all.

        Tensors have names; the metadata is JSON-able.
        """
        if self.size == 1:
            return load()
        state = load() if self.is_first else None

        # First the metadata and the shapes, so that the others can allocate the tensors.
        header: dict[str, Any] | None = None
        if state is not None:
            tensors, metadata = state
            shapes = {
                name: (str(tensor.dtype).removeprefix("torch."), list(tensor.shape))
                for name, tensor in tensors.items()
            }
            header = {"metadata": metadata, "shapes": shapes}
        header = self.broadcast(lambda: header)
        if header is None:
            return None

        received: dict[str, Tensor] = {}
        for name, (dtype, shape) in header["shapes"].items():
            if state is not None:
                tensor = state[0][name].contiguous()
            else:
                tensor = torch.empty(shape, dtype=getattr(torch, dtype))
            with _exchange():
                distributed.broadcast(tensor, src=0)
            received[name] = tensor
        return received, header["metadata"]

    def _broadcast_bytes(self, content: bytes) -> bytes:
        """Return the first process's `content` in all; its length is sent first."""
        size = torch.tensor([len(content)])
        with _exchange():
            distributed.broadcast(size, src=0)
            data = torch.zeros(int(size), dtype=torch.uint8)
            if self.is_first:
                data = torch.frombuffer(bytearray(content), dtype=torch.uint8)
            distributed.broadcast(data, src=0)
        return data.numpy().tobytes()

    def sum_gradients(
        self, parameters: Iterable[nn.Parameter], nats: float, tokens: int
    ) -> tuple[float, int]:
        """Sum over all processes the gradients, the loss, and its number of tokens.

        Returns the sums of the loss and of the tokens.
        """
        trainable = [parameter for parameter in parameters if parameter.requires_grad]
        device = trainable[0].device
        has_gradient = torch.tensor(
            [parameter.grad is not None for parameter in trainable],
            dtype=torch.float32,
            device=device,
        )
        sums = torch.tensor([nats, float(tokens)], dtype=torch.float64, device=device)
        with _exchange():
            distributed.all_reduce(has_gradient)
            distributed.all_reduce(sums)

        # Parameters with a gradient in some process; the others contribute zeros.
        used = [
            parameter
            for parameter, count in zip(trainable, has_gradient.tolist(), strict=True)
            if count
        ]
        if not used:
            return float(sums[0]), int(sums[1])
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in used]

        # Flatten into one bucket: one exchange costs less than many.
        bucket = torch.cat([gradient.flatten() for gradient in gradients])
        with _exchange():
            distributed.all_reduce(bucket)
        parts = bucket.split_with_sizes([parameter.numel() for parameter in used])
        for parameter, part in zip(used, parts, strict=True):
            parameter.grad = part.view_as(parameter)
        return float(sums[0]), int(sums[1])

    def all_equal(self, text: str) -> bool:
        """Return whether every process passes the same text."""
        if self.size == 1:
            return True
        # The minimum is 1 only if every process has the first one's text.
        equal = torch.tensor([self.broadcast(lambda: text) == text], dtype=torch.int32)
        with _exchange():
            distributed.all_reduce(equal, distributed.ReduceOp.MIN)
        return bool(equal)


@contextmanager
def _exchange() -> Iterator[None]:
    """Exchange data with the other processes; PeerLost if one of them has ended."""
    try:
        yield
    except RuntimeError as error:
        # too little memory, descriptors or threads: this process is the cause
        if exhausted(error):
            raise
        raise PeerLost(
            f"training: lost another process of this training ({describe_error(error)[:200]}). See "
            "what it says, and run again."
        ) from error


SINGLE_PROCESS = Group(0, 1)


def process_count(requested: int, accumulate: int) -> int:
    """Number of the `requested` processes that can share the batches of an update evenly."""
    return math.gcd(requested, accumulate)


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
    """Join the group of processes; return it, and the name of this process's device.

    The group is a single process unless `launcher` or torchrun has started this one.
    """
    if not launcher.is_launched():
        return SINGLE_PROCESS, device
    group = Group(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    if accumulate % group.size:
        raise refuse(
            "training.accumulate",
            accumulate,
            f"a multiple of torchrun's {group.size} processes",
            f"Set it to {group.size}, or start fewer processes.",
        )
    launcher.exit_with_parent()

    # NCCL for gradients on GPUs; everything else is exchanged on the CPU.
    on_cuda = device in ("auto", "cuda") and torch.cuda.is_available()
    backend = "cpu:gloo,cuda:nccl" if on_cuda else "gloo"
    folder = launcher.private_folder()
    with _exchange():
        if folder is None:
            distributed.init_process_group(backend)
        else:
            store = distributed.FileStore(str(folder / "store"), group.size)  # type: ignore[attr-defined]
            distributed.init_process_group(
                backend, store=store, rank=group.rank, world_size=group.size
            )
    return group, f"cuda:{os.environ['LOCAL_RANK']}" if on_cuda else device


def leave() -> None:
    """Leave the group that `join` joined."""
    if distributed.is_initialized():
        distributed.destroy_process_group()
