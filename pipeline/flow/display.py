"""Progress of a run: a live table on a terminal, elsewhere a line for every stage that ends."""

import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pipeline.core.errors import nobody_reads
from pipeline.dag.run_stage import Result

_MARKS = {
    "ran": "done",
    "cached": "unchanged",
    "failed": "FAILED",
    "cancelled": "cancelled",
    "blocked": "not started",
}


class Display(Protocol):
    """Told what happens, by the flow's own thread."""

    def began(self, address: str) -> None:
        """The stage has started."""

    def ended(self, address: str, result: Result) -> None:
        """The stage is over, or will never start."""

    def tick(self) -> None:
        """Some time has passed."""

    def close(self) -> None:
        """The run is over."""


class Plain:
    """One line per stage, on standard output."""

    def __init__(self, total: int) -> None:
        self._total, self._done = total, 0

    def began(self, address: str) -> None:
        """Nothing: its end will be told."""

    def ended(self, address: str, result: Result) -> None:
        """A line."""
        self._done += 1
        # nobody reads it any more: the run goes on, and its logs are on disk
        with suppress(BrokenPipeError):
            print(f"[{self._done}/{self._total}] {stage_line(address, result)}")
        nobody_reads(sys.stdout)

    def tick(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class Terminal:
    """Lines for what is over, and below them, rewritten as time goes by, what runs and the
    counts."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._running: dict[str, float] = {}
        self._counts: Counter[str] = Counter()
        console = Console(file=sys.stdout)
        self._live = Live(
            console=console, refresh_per_second=4, transient=True, get_renderable=self._drawn
        )
        self._live.start()

    def began(self, address: str) -> None:
        """It is shown with its seconds."""
        self._running[address] = time.monotonic()

    def ended(self, address: str, result: Result) -> None:
        """A line above."""
        self._running.pop(address, None)
        self._counts[result.state] += 1
        self._live.console.print(
            stage_line(address, result), markup=False, highlight=False, soft_wrap=True
        )

    def tick(self) -> None:
        """Nothing: it redraws itself."""

    def close(self) -> None:
        """The live part goes."""
        self._live.stop()

    def _drawn(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for address, began in self._running.items():
            table.add_row(Text(address), f"{time.monotonic() - began:.0f} s")
        counts = ", ".join(f"{count} {_MARKS[state]}" for state, count in self._counts.items())
        table.add_row(f"{sum(self._counts.values())} of {self._total}", counts)
        return table


def stage_line(address: str, result: Result) -> str:
    """A stage's end in a line."""
    seconds = f" in {result.seconds:.1f} s" if result.seconds else ""
    return f"{address}: {_MARKS[result.state]}{seconds}{f': {result.why}' if result.why else ''}"


def display(total: int) -> Display:
    """Choose the display that fits standard output."""
    return Terminal(total) if sys.stdout.isatty() else Plain(total)


def shown(path: Path, root: Path) -> str:
    """A path as one would type it in the project."""
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
