"""Devices of tensors, and numbers of threads."""

import torch

from pipeline.core.errors import refuse


def choose(name: str, where: str) -> torch.device:
    """The device called `auto`, `cpu`, `cuda`, `cuda:N` or `mps`; `auto` takes the first of cuda,
    mps, cpu that is there."""
    if name == "auto":
        name = (
            "cuda"
            if torch.cuda.is_available()
            else "mps"
            if torch.backends.mps.is_available()
            else "cpu"
        )
    kind, _, index = name.partition(":")
    known = kind in ("cpu", "cuda", "mps") and (not index or (kind == "cuda" and index.isdigit()))
    if not known:
        raise refuse(where, name, "auto, cpu, cuda, cuda:N or mps")
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }[kind]
    if kind == "cuda" and there and index:
        there = int(index) < torch.cuda.device_count()
    if not there:
        raise refuse(where, name, "a device of this machine", "Use auto or cpu.")
    return torch.device(name)


def prepare(threads: int) -> None:
    """Use this many CPU threads, and only kernels that give the same bits each time."""
    torch.set_num_threads(threads)
    # use_deterministic_algorithms imports the compiler, which takes a second
    torch.set_deterministic_debug_mode("warn")
