"""Devices of tensors, and numbers of threads."""

import torch

from pipeline.core.errors import refuse


def choose(name: str, where: str) -> torch.device:
    """The device called `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.

    `auto` takes the first of cuda, mps and cpu that this machine has. UserError, with the key
    called `where`, for another name or a device that it lacks.
    """
    if name == "auto":
        name = _default()

    kind, _, index = name.partition(":")
    known = kind in ("cpu", "cuda", "mps") and (not index or (kind == "cuda" and index.isdigit()))
    if not known:
        raise refuse(where, name, "auto, cpu, cuda, cuda:N or mps")

    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }[kind]
    if kind == "cuda" and available and index:
        available = int(index) < torch.cuda.device_count()
    if not available:
        raise refuse(where, name, "a device of this machine", "Use auto or cpu.")
    return torch.device(name)


def _default() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def prepare(threads: int) -> None:
    """Use this many CPU threads, and only kernels that give the same bits each time."""
    torch.set_num_threads(threads)
    # use_deterministic_algorithms imports the compiler, which takes a second
    torch.set_deterministic_debug_mode("warn")
    # Deterministic mode would fill every new tensor, which costs up to 8 % of a step. No code here
    # reads memory that it has not written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def seed(value: int, device: torch.device) -> None:
    """Seed the generators of the CPU and of `device`.

    `torch.manual_seed` seeds those of all backends, and formats a stack trace for each that this
    build lacks."""
    torch.default_generator.manual_seed(value)
    if device.type == "cuda":
        torch.cuda.manual_seed(value)
    elif device.type == "mps":
        torch.mps.manual_seed(value)
