"""The section `run` of `flow.yaml`: how stages are run here. No result depends on it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.core import config
from pipeline.core.errors import refuse

FILE = "flow.yaml"


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """Settings for stages, in a flow and in the evaluation of a challenger.

    `dvc`: `patched` runs stages in forks of one process that has imported DVC and replaced some of
    its functions (dvc_patches.py); `plain` runs `dvc repro --single-item` for each of them.

    `time_limits`: seconds by kind of stage (`train` of `train@lstm`); a kind that is not named has
    none.

    `retries` and `retry_seconds` (before the first retry, then doubled) are for downloads that the
    network failed and for DVC's own locks. Mistakes and failed trainings are not repeated."""

    dvc: Literal["patched", "plain"]
    time_limits: dict[str, int]
    retries: int
    retry_seconds: float

    def __post_init__(self) -> None:
        for kind, seconds in self.time_limits.items():
            if seconds < 1:
                raise refuse(
                    f"time_limits.{kind}",
                    seconds,
                    "at least 1 second",
                    "Leave the kind out for no limit.",
                )
        if self.retries < 0:
            raise refuse("retries", self.retries, "0 or more")
        if self.retry_seconds < 0:
            raise refuse("retry_seconds", self.retry_seconds, "0.0 or more")


def load(root: Path) -> Run:
    """Load the section `run` of the project's `flow.yaml`."""
    return config.load(Run, config.section(root / FILE, "run"), "run")
