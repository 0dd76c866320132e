"""Progress of a transfer on stderr: a bar on a terminal, a plain line every few seconds
elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

_SECONDS_PER_LINE = 10.0
_MEGABYTE = 1_000_000


@contextmanager
def progress(label: str, received: int, total: int | None) -> Iterator[Callable[[int], object]]:
    """Show the progress; yield a function to call with the number of newly received bytes.

    `received` of `total` bytes (None if unknown) were received before."""
    if sys.stderr.isatty():
        with tqdm(desc=label, initial=received, total=total, unit="B", unit_scale=True) as bar:
            yield bar.update
        return

    lines = _Lines(label, received, total)
    lines.print_line("resumed at" if received else "begun at")
    yield lines.add
    lines.print_line("ended at")


class _Lines:
    def __init__(self, label: str, received: int, total: int | None) -> None:
        self._label = label
        self._received = received
        self._total = total
        self._printed_at = time.monotonic()

    def add(self, count: int) -> None:
        self._received += count
        if time.monotonic() - self._printed_at >= _SECONDS_PER_LINE:
            self.print_line("at")

    def print_line(self, event: str) -> None:
        total = f"{self._total / _MEGABYTE:.1f}" if self._total is not None else "?"
        print(
            f"{self._label}: {event} {self._received / _MEGABYTE:.1f} of {total} MB",
            file=sys.stderr,
            flush=True,
        )
        self._printed_at = time.monotonic()
