"""Summary of a run: what failed and why, where its log is, what was not started, and how to go
on."""

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


@dataclass(frozen=True, slots=True)
class Outcome:
    """By address, how each stage of the plan ended; `seconds` is the whole run's. `note`: one more
    thing to say, or ""."""

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
        return any(
            result.state == "ran" or (result.state == "cached" and result.log)
            for result in self.stages.values()
        )

    def of(self, state: State) -> list[str]:
        """The stages that ended so, in the plan's order."""
        return [address for address, result in self.stages.items() if result.state == state]

    def summary(self) -> str:
        """A line if all is well; else also one for each failure, what it kept from being started,
        and the next step."""
        counts = Counter(result.state for result in self.stages.values())
        told = ", ".join(
            f"{counts[state]} {word}" for state, word in _WORDS.items() if counts[state]
        )
        lines = [f"{len(self.stages)} stages in {self.seconds:.1f} s: {told or 'nothing to do'}"]
        for address in self.of("failed"):
            result = self.stages[address]
            lines += [f"FAILED {address}: {result.why}", f"       log: {self._shown(result.log)}"]
        if blocked := self.of("blocked"):
            lines.append(f"not started, since they need what failed: {_few(blocked)}")
        if not self.ok:
            again = "Mend it and" if self.of("failed") else "To go on,"
            lines.append(f"{again} run the same command again: what is done stays done.")
        return "\n".join([*lines, *([self.note] if self.note else [])])

    def _shown(self, path: Path | None) -> str:
        if path is None:
            return "none"
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)


def _few(names: list[str]) -> str:
    shown = names[:8]
    return ", ".join(shown) + (
        f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    )
