"""Progress of a run: a live table on a terminal, elsewhere a line for each stage that ends."""

import sys
import time
from collections import Counter
from contextlib import suppress
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pipeline.core.errors import reader_closed
from pipeline.dag.run_stage import Result

_MARKS = {
    "ran": "done",
    "cached": "unchanged",
    "failed": "FAILED",
    "cancelled": "cancelled",
    "blocked": "not started",
}


class Display(Protocol):
    """Interface of a display; the flow's thread calls it."""

    def stage_started(self, address: str) -> None:
        """Show that the stage runs."""

    def stage_ended(self, address: str, result: Result) -> None:
        """Show the result of a stage that has ended."""

    def close(self) -> None:
        """Close the display when the run is over."""


class Plain:
    """One line per stage, on standard output."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._ended = 0

    def stage_started(self, address: str) -> None:
        """Print nothing: its end is printed."""

    def stage_ended(self, address: str, result: Result) -> None:
        """Print a line."""
        self._ended += 1
        # If the reader has closed the pipe, the run continues: its logs are on disk.
        with suppress(BrokenPipeError):
            print(f"[{self._ended}/{self._total}] {stage_line(address, result)}")
        reader_closed(sys.stdout)

    def close(self) -> None:
        """Print nothing."""


class Terminal:
    """Lines for ended stages; below them a live table of the running stages and the counts."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._running: dict[str, float] = {}
        self._counts: Counter[str] = Counter()
        console = Console(file=sys.stdout)
        # Rich calls `_table` in a thread of its own, four times a second.
        self._live = Live(
            console=console, refresh_per_second=4, transient=True, get_renderable=self._table
        )
        self._live.start()

    def stage_started(self, address: str) -> None:
        """Add the stage to the table."""
        self._running[address] = time.monotonic()

    def stage_ended(self, address: str, result: Result) -> None:
        """Move the stage from the table to the lines above."""
        self._running.pop(address, None)
        self._counts[result.state] += 1
        self._live.console.print(
            stage_line(address, result), markup=False, highlight=False, soft_wrap=True
        )

    def close(self) -> None:
        """Remove the table."""
        self._live.stop()

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for address, started in list(self._running.items()):
            table.add_row(Text(address), f"{time.monotonic() - started:.0f} s")
        counts = ", ".join(f"{count} {_MARKS[state]}" for state, count in self._counts.items())
        table.add_row(f"{sum(self._counts.values())} of {self._total}", counts)
        return table


def stage_line(address: str, result: Result) -> str:
    """Format the end of a stage."""
    duration = f" in {result.seconds:.1f} s" if result.seconds else ""
    reason = f": {result.why}" if result.why else ""
    return f"{address}: {_MARKS[result.state]}{duration}{reason}"


def display(total: int) -> Display:
    """Choose the display that fits standard output."""
    return Terminal(total) if sys.stdout.isatty() else Plain(total)
