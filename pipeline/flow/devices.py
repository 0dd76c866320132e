"""Assignment of stages to devices and of threads to cores. No torch is imported.

On GPUs a training, and a prediction, holds one of its own, named to it by CUDA_VISIBLE_DEVICES. On
the CPU `compute.slots` trainings share it."""

import importlib.metadata
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from pipeline.core import params

_VISIBLE = "CUDA_VISIBLE_DEVICES"
_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "RAYON_NUM_THREADS",
)
_ON_GPU, _ON_CPU = frozenset({"train", "predict"}), frozenset({"train"})


class Slots:
    """Places for the stages of the kinds that need one; a place is what CUDA_VISIBLE_DEVICES shall
    be, or None."""

    def __init__(self, kinds: frozenset[str], places: Sequence[str | None]) -> None:
        self._kinds, self._free = kinds, list(places)

    def acquire(self, kind: str) -> "Place | None":
        """A place for a stage of this kind: a real one or, for kinds that need none, an empty one;
        None if all are taken."""
        if kind not in self._kinds:
            return Place(self, None, False)
        return Place(self, self._free.pop(0), True) if self._free else None

    def release(self, name: str | None) -> None:
        """The place `name` is free again, and next in turn."""
        self._free.insert(0, name)


class Place:
    """Held from a stage's start to its end."""

    def __init__(self, slots: Slots, name: str | None, counted: bool) -> None:
        self._slots, self._counted, self.name = slots, counted, name

    def environment(self) -> dict[str, str]:
        """Environment variables that tell the stage its device."""
        return {} if self.name is None else {_VISIBLE: self.name}

    def release(self) -> None:
        """Let the next one in."""
        if self._counted:
            self._slots.release(self.name)


def slots(compute: params.Compute) -> Slots:
    """The places that this machine and the section `compute` offer."""
    if compute.device.startswith(("mps", "cuda:")):  # one device, named by number: all take turns
        return Slots(_ON_GPU, [None])
    gpus = visible() if compute.device in ("auto", "cuda") else []
    if not gpus or (compute.device == "auto" and _is_for_cpu()):
        return Slots(_ON_CPU, [None] * max(1, compute.slots))
    each = min(max(1, compute.processes), len(gpus))  # a training's processes have a GPU each
    return Slots(
        _ON_GPU, [",".join(gpus[at : at + each]) for at in range(0, len(gpus) - each + 1, each)]
    )


def visible() -> list[str]:
    """The GPUs that may be used, as CUDA_VISIBLE_DEVICES names them; what it already says is
    obeyed."""
    told = os.environ.get(_VISIBLE)
    if told is not None:
        names = [name.strip() for name in told.split(",") if name.strip()]
        return names[: names.index("-1")] if "-1" in names else names
    if shutil.which("nvidia-smi") is None:
        return []
    ask = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    try:
        done = subprocess.run(ask, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return (
        [line.strip() for line in done.stdout.splitlines() if line.strip().isdecimal()]
        if done.returncode == 0
        else []
    )


def _is_for_cpu() -> bool:
    """Return whether torch was built without CUDA, as its version says."""
    try:
        return importlib.metadata.version("torch").endswith("+cpu")
    except importlib.metadata.PackageNotFoundError:
        return True


def threads(jobs: int) -> dict[str, str]:
    """An equal share of the cores for each of `jobs` stages, where the user has not said otherwise.
    Training and prediction take their number from the run; no other stage's bytes depend on it."""
    share = str(max(1, cores() // jobs))
    return {name: share for name in _THREADS if name not in os.environ}


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def project_slots(root: Path) -> Slots:
    """The places for the project's `params.yaml`; one for a DAG without a section `compute`."""
    return slots(params.compute(root / "params.yaml"))
