"""Progress of a run, and its summary.

The progress is a live table on a terminal, elsewhere a line for each stage that ends. Both have the
time left (`time_left`). The summary has the failed stages with reason and log, the stages not
started, and the next step.
"""

import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pipeline.core.errors import reader_closed
from pipeline.dag.run_stage import Result, State
from pipeline.flow.time_left import TimeLeft, in_words

_MARKS = {
    "ran": "done",
    "cached": "unchanged",
    "failed": "FAILED",
    "cancelled": "cancelled",
    "blocked": "not started",
}
_WORDS: dict[State, str] = {
    "ran": "run",
    "cached": "up to date",
    "failed": "failed",
    "blocked": "not started",
    "cancelled": "cancelled",
}
_SHOWN_STAGES = 8
_SILENT_SECONDS = 60
_BAR_COLUMNS = 24


class Plain:
    """One line per stage, on standard output; when none ends for a minute, one with those that
    run."""

    def __init__(self, total: int, time_left: TimeLeft) -> None:
        self._total = total
        self._ended = 0
        self._time_left = time_left
        self._running: dict[str, float] = {}
        self._last_line = time.monotonic()
        if total:
            self._print(f"{total} stages to run{_left(time_left, ': ', '')}")

    def stage_started(self, address: str) -> None:
        """Print nothing: its end is printed."""
        self._running[address] = time.monotonic()
        self._time_left.started(address)

    def stage_ended(self, address: str, result: Result) -> None:
        """Print a line."""
        self._ended += 1
        self._running.pop(address, None)
        self._time_left.ended(address, result.seconds, _succeeded(result))
        self._print(f"{self._counter()} {stage_line(address, result)}{self._remaining()}")

    def waited(self) -> None:
        """Print a line with the running stages, if nothing was printed for a minute."""
        now = time.monotonic()
        if self._running and now - self._last_line > _SILENT_SECONDS:
            running = [f"{name} ({now - start:.0f} s)" for name, start in self._running.items()]
            self._print(f"{self._counter()} running: {', '.join(running)}{self._remaining()}")

    def close(self) -> None:
        """Print nothing."""

    def _counter(self) -> str:
        return f"[{self._ended}/{self._total}]"

    def _remaining(self) -> str:
        return "" if self._ended == self._total else _left(self._time_left, "; ", " left")

    def _print(self, line: str) -> None:
        self._last_line = time.monotonic()
        # If the reader has closed the pipe, the run continues: its logs are on disk.
        with suppress(BrokenPipeError):
            print(line)
        reader_closed(sys.stdout)


class Terminal:
    """A live table of the running stages, with a bar for all stages and the time left; above it a
    line for each stage that failed."""

    def __init__(self, total: int, time_left: TimeLeft) -> None:
        self._total = total
        self._time_left = time_left
        self._estimate: tuple[float, float] | None = None  # the time left, and when it was known
        self._running: dict[str, float] = {}
        self._counts: Counter[str] = Counter()
        console = Console(file=sys.stdout)
        self._update()
        # Rich calls `_table` in a thread of its own, four times a second.
        self._live = Live(
            console=console, refresh_per_second=4, transient=True, get_renderable=self._table
        )
        self._live.start()

    def stage_started(self, address: str) -> None:
        """Add the stage to the table."""
        self._running[address] = time.monotonic()
        self._time_left.started(address)
        self._update()

    def stage_ended(self, address: str, result: Result) -> None:
        """Remove the stage from the table; print a line if it failed."""
        self._running.pop(address, None)
        self._counts[result.state] += 1
        self._time_left.ended(address, result.seconds, _succeeded(result))
        self._update()
        if not _succeeded(result):
            self._live.console.print(
                stage_line(address, result), markup=False, highlight=False, soft_wrap=True
            )

    def waited(self) -> None:
        """Do nothing: the table refreshes itself."""

    def close(self) -> None:
        """Remove the table."""
        self._live.stop()

    def _update(self) -> None:
        left = self._time_left.seconds()
        self._estimate = None if left is None else (left, time.monotonic())

    def _table(self) -> Group:
        running = Table.grid(padding=(0, 2))
        for address, started in list(self._running.items()):
            running.add_row(Text(address), f"{time.monotonic() - started:.0f} s")

        ended = sum(self._counts.values())
        counts = ", ".join(
            f"{count} {_MARKS[state]}" for state, count in dict(self._counts).items()
        )
        left = "time left: not known yet"
        if ended == self._total:
            left = ""
        elif self._estimate is not None:
            seconds, since = self._estimate
            left = f"about {in_words(seconds - (time.monotonic() - since))} left"
        whole = Table.grid(padding=(0, 2))
        bar = ProgressBar(total=max(self._total, 1), completed=ended, width=_BAR_COLUMNS)
        whole.add_row(bar, f"{ended} of {self._total}", counts, left)
        return Group(running, whole)


def _succeeded(result: Result) -> bool:
    return result.state in ("ran", "cached")


def _left(time_left: TimeLeft, before: str, after: str) -> str:
    seconds = time_left.seconds()
    return "" if seconds is None else f"{before}about {in_words(seconds)}{after}"


def stage_line(address: str, result: Result) -> str:
    """Format the end of a stage."""
    duration = f" in {result.seconds:.1f} s" if result.seconds else ""
    reason = f": {result.why}" if result.why else ""
    return f"{address}: {_MARKS[result.state]}{duration}{reason}"


Display = Terminal | Plain
"""A display of a run; the flow's thread calls it."""


def display(total: int, time_left: TimeLeft) -> Display:
    """Choose the display that fits standard output."""
    kind = Terminal if sys.stdout.isatty() else Plain
    return kind(total, time_left)


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
            log = result.log.relative_to(self.root) if result.log else "none"
            lines.append(f"FAILED {address}: {result.why}")
            lines.append(f"       log: {log}")
        if blocked := self.with_state("blocked"):
            names = ", ".join(blocked[:_SHOWN_STAGES])
            hidden = len(blocked) - _SHOWN_STAGES
            more = f" and {hidden} more" if hidden > 0 else ""
            lines.append(f"not started, since they need what failed: {names}{more}")
        if not self.ok:
            first = "Fix it and run" if failed else "To continue, run"
            lines.append(f"{first} the same command again: completed stages do not run again.")
        if self.note:
            lines.append(self.note)
        return "\n".join(lines)
