"""Summary of a run: failed stages with reason and log, stages not started, and the next step."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from pipeline.dag.run_stage import Result, State

_WORDS: dict[State, str] = {
    "ran": "run",
    "cached": "up to date",
    "failed": "failed",
    "blocked": "not started",
    "cancelled": "cancelled",
}
_SHOWN_STAGES = 8


@dataclass(frozen=True, slots=True)
class Outcome:
    """Results of the plan's stages by address, and the `seconds` of the whole run.

    `note` is a last line of the summary, or "".
    """

    stages: dict[str, Result]
    seconds: float
    root: Path
    note: str = ""

    @property
    def ok(self) -> bool:
        """Return whether every stage is up to date now."""
        return all(result.state in ("cached", "ran") for result in self.stages.values())

    @property
    def changed_outputs(self) -> bool:
        """Return whether any output may have changed."""
        # A stage that DVC restored from its run cache is `cached` too, but has a log.
        return any(
            result.state == "ran" or (result.state == "cached" and result.log)
            for result in self.stages.values()
        )

    def with_state(self, state: State) -> list[str]:
        """List the stages that ended in this state, in the plan's order."""
        return [address for address, result in self.stages.items() if result.state == state]

    def summary(self) -> str:
        """One line if all stages are up to date; else also the failures and the next step."""
        # In the order of `_WORDS`, whatever the order in which the stages ended.
        counts = Counter(result.state for result in self.stages.values())
        parts = [f"{counts[state]} {word}" for state, word in _WORDS.items() if counts[state]]
        states = ", ".join(parts) or "nothing to do"
        lines = [f"{len(self.stages)} stages in {self.seconds:.1f} s: {states}"]

        failed = self.with_state("failed")
        for address in failed:
            result = self.stages[address]
            lines.append(f"FAILED {address}: {result.why}")
            lines.append(f"       log: {self._relative(result.log)}")
        if blocked := self.with_state("blocked"):
            lines.append(f"not started, since they need what failed: {_abbreviated(blocked)}")
        if not self.ok:
            first = "Fix it and run" if failed else "To continue, run"
            lines.append(f"{first} the same command again: completed stages do not run again.")
        if self.note:
            lines.append(self.note)
        return "\n".join(lines)

    def _relative(self, path: Path | None) -> str:
        if path is None:
            return "none"
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)


def _abbreviated(names: list[str]) -> str:
    hidden = len(names) - _SHOWN_STAGES
    return ", ".join(names[:_SHOWN_STAGES]) + (f" and {hidden} more" if hidden > 0 else "")
