"""Devices of tensors, and numbers of threads."""

import ctypes
import os
from pathlib import Path

import torch

from pipeline.core import portable_cpu
from pipeline.core.errors import refuse

_CPU_INFO = Path("/proc/cpuinfo")  # Linux
# Parameters of mallopt(3): blocks from this size on are mapped one by one, and free memory at the
# end of the heap beyond this size is returned.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES = 2**30


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


def bfloat16_warning(device: torch.device) -> str:
    """Return why training in bfloat16 will be slow on the device; "" if it will not be.

    A CPU needs AVX512-BF16 or AMX for it. Without them, every product is converted."""
    if device.type != "cpu" or not _CPU_INFO.exists():
        return ""
    if os.environ.get("ONEDNN_MAX_CPU_ISA") == portable_cpu.VARIABLES["ONEDNN_MAX_CPU_ISA"]:
        return "kernels are held to AVX2; SEQLINE_CPU=native lets them use the CPU's bfloat16"
    flags = set(_CPU_INFO.read_text(encoding="utf-8", errors="replace").split())
    if flags & {"avx512_bf16", "amx_bf16"}:
        return ""
    return "this CPU has neither AVX512-BF16 nor AMX"


def prepare(threads: int) -> None:
    """Use this many CPU threads, and only kernels that give the same bits each time."""
    torch.set_num_threads(threads)
    # use_deterministic_algorithms imports the compiler, which takes a second
    torch.set_deterministic_debug_mode("warn")
    # Deterministic mode would fill every new tensor, which costs up to 8 % of a step. No code here
    # reads memory that it has not written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def reuse_freed_memory() -> None:
    """Let this process keep the memory of freed tensors for the next ones, up to 1 GiB.

    The C library returns large blocks to the system when they are freed, and the system clears each
    page of a new one. An update of a large batch then spends up to a third of its time on pages
    (docs/log.md). Does nothing where the C library has no `mallopt`, as on macOS."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def seed(value: int, device: torch.device) -> None:
    """Seed the generators of the CPU and of `device`.

    `torch.manual_seed` seeds those of all backends, and formats a stack trace for each that this
    build lacks."""
    torch.default_generator.manual_seed(value)
    if device.type == "cuda":
        torch.cuda.manual_seed(value)
    elif device.type == "mps":
        torch.mps.manual_seed(value)
