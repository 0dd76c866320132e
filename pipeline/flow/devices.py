"""Assignment of stages to devices and of threads to cores. No torch is imported.

On GPUs each training and each prediction holds one, or as many as it has processes, and sees no
other (CUDA_VISIBLE_DEVICES). On the CPU, `compute.slots` trainings run at a time.
"""

import importlib.metadata
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
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
# Kinds of stages that need a place
_GPU_KINDS = frozenset({"train", "predict"})
_CPU_KINDS = frozenset({"train"})


class Slots:
    """The places for stages of the kinds that need one. A place is a value of CUDA_VISIBLE_DEVICES,
    or None to leave the variable alone."""

    def __init__(self, kinds: frozenset[str], places: Sequence[str | None]) -> None:
        self._kinds = kinds
        self._free = list(places)
        self.places = len(places)

    def needs_place(self, kind: str) -> bool:
        """Return whether a stage of this kind needs a place."""
        return kind in self._kinds

    def acquire(self, kind: str) -> "Place | None":
        """A place for a stage of this kind; None if all are taken. For kinds that need none it is
        unlimited and empty."""
        if not self.needs_place(kind):
            return Place(None, None)
        return Place(self._free.pop(0), self._free) if self._free else None


@dataclass(frozen=True, slots=True)
class Place:
    """A stage's place, from its start to its end: its `name`, and the list of the `free` places to
    which it returns; None for a place that is not counted."""

    name: str | None
    free: list[str | None] | None

    def environment(self) -> dict[str, str]:
        """Environment variables that restrict the stage to its devices."""
        return {} if self.name is None else {_VISIBLE: self.name}

    def release(self) -> None:
        """Free the place, which is the next to be acquired."""
        if self.free is not None:
            self.free.insert(0, self.name)


def slots(compute: params.Compute) -> Slots:
    """The places that this machine offers under the section `compute`."""
    # A single named device: the stages that need one run one after another.
    if compute.device.startswith(("mps", "cuda:")):
        return Slots(_GPU_KINDS, [None])

    gpus = visible() if compute.device in ("auto", "cuda") else []
    if not gpus or (compute.device == "auto" and _is_for_cpu()):
        return Slots(_CPU_KINDS, [None] * max(1, compute.slots))

    # Each process of a training has its own GPU. GPUs that are too few for a place stay unused.
    each = min(max(1, compute.processes), len(gpus))
    starts = range(0, len(gpus) - each + 1, each)
    return Slots(_GPU_KINDS, [",".join(gpus[start : start + each]) for start in starts])


def visible() -> list[str]:
    """Names of the usable GPUs: those in CUDA_VISIBLE_DEVICES or, if it is not set, all."""
    visible_devices = os.environ.get(_VISIBLE)
    if visible_devices is not None:
        names = [name.strip() for name in visible_devices.split(",") if name.strip()]
        # CUDA ignores an invalid number and all behind it.
        return names[: names.index("-1")] if "-1" in names else names

    if shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    try:
        process = subprocess.run(query, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    if process.returncode:
        return []
    return [line.strip() for line in process.stdout.splitlines() if line.strip().isdecimal()]


def _is_for_cpu() -> bool:
    """Return whether torch was built without CUDA, as its version says."""
    try:
        return importlib.metadata.version("torch").endswith("+cpu")
    except importlib.metadata.PackageNotFoundError:
        return True


def threads(jobs: int) -> dict[str, str]:
    """Environment variables that give each of `jobs` stages an equal share of the cores.

    A variable that the user has set stays. Training and prediction read their number of threads
    from the run; no other stage's bytes depend on it."""
    share = str(max(1, cores() // jobs))
    return {name: share for name in _THREADS if name not in os.environ}


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def project_slots(root: Path) -> Slots:
    """The places under the project's `params.yaml`; one for a DAG without a section `compute`."""
    return slots(params.compute(root / "params.yaml"))
