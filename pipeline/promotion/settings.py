"""The section `gate` of `flow.yaml`: when a challenger replaces the champion."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.core import config
from pipeline.core.errors import refuse
from pipeline.scoring import tasks

Method = Literal["approximate_randomisation", "paired_bootstrap"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Settings of the promotion gate.

    `level`: the largest chance that a test set ever promotes a challenger that is no better. Each
    of its `challenges` is tested at an equal share of it (`alpha_spending`). `beats_baseline`: by
    registered model, the run that a champion must beat too, or None. `guards`: by task, how much
    worse each guarded metric may be, in its own unit. Perplexities have no common scale: their
    margin is a share of the champion's."""

    test: Method
    level: float
    challenges: int
    beats_baseline: dict[str, str | None]
    resamples: int
    seed: int
    guards: dict[str, dict[str, float]]  # margins by task and guard

    def __post_init__(self) -> None:
        if not 0 < self.level <= 0.5:
            raise refuse("level", self.level, "a share above 0 and at most 0.5, such as 0.05")

        if self.challenges < 1:
            raise refuse("challenges", self.challenges, "at least 1: challenges of a test set")

        # The smallest p-value of a resampling test is 1 / (resamples + 1).
        if (self.resamples + 1) * self.share <= 2:
            expected = (
                f"at least {round(2 / self.share)}, or no p-value could be below half of "
                f"level / challenges, {self.share:.3g}"
            )
            raise refuse("resamples", self.resamples, expected)

        known = tasks.guards()
        for name in self.beats_baseline:
            if name.partition("-")[0] not in known:
                expected = f"TASK-CORPUS, with a task of {', '.join(known)}"
                raise refuse(f"beats_baseline.{name}", "an unknown task", expected)
        for task in self.guards:
            if task not in known:
                raise refuse(f"guards.{task}", "an unknown task", "one of " + ", ".join(known))
        for task, guards in known.items():
            self._check_margins(task, guards)

    @property
    def share(self) -> float:
        """The level of each challenge."""
        return self.level / self.challenges

    def _check_margins(self, task: str, guards: tuple[str, ...]) -> None:
        if task not in self.guards:
            raise refuse(f"guards.{task}", "nothing", "a section with the key score", "Add it.")

        for guard, margin in self.guards[task].items():
            if guard not in guards:
                raise refuse(
                    f"guards.{task}.{guard}", "an unknown guard", "one of " + ", ".join(guards)
                )
            if margin < 0:
                raise refuse(
                    f"guards.{task}.{guard}", margin, "at least 0: how much worse it may be"
                )

        # The task's own score is the only guard that every task must have.
        if "score" not in self.guards[task]:
            raise refuse(
                f"guards.{task}.score",
                "nothing",
                "a number",
                "Add the key: it holds on every test set.",
            )


def load(path: Path) -> Settings:
    """The section `gate` of the file `path`."""
    return config.load(Settings, config.section(path, "gate"), "gate")
