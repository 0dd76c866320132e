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
def progress(what: str, done: int, total: int | None) -> Iterator[Callable[[int], None]]:
    """A function to call with each number of bytes that came; `done` of `total` (None if unknown)
    are there already."""
    if sys.stderr.isatty():
        with tqdm(desc=what, initial=done, total=total, unit="B", unit_scale=True) as bar:
            yield lambda count: (bar.update(count), None)[1]
        return
    lines = _Lines(what, done, total)
    lines.tell("resumed at" if done else "begun at")
    yield lines.add
    lines.tell("ended at")


class _Lines:
    def __init__(self, what: str, done: int, total: int | None) -> None:
        self._what, self._done, self._total = what, done, total
        self._told = time.monotonic()

    def add(self, count: int) -> None:
        self._done += count
        if time.monotonic() - self._told >= _SECONDS_PER_LINE:
            self.tell("at")

    def tell(self, word: str) -> None:
        total = f"{self._total / _MEGABYTE:.1f}" if self._total is not None else "?"
        print(
            f"{self._what}: {word} {self._done / _MEGABYTE:.1f} of {total} MB",
            file=sys.stderr,
            flush=True,
        )
        self._told = time.monotonic()
