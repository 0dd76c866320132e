"""Warnings about words that a run does not know."""

import sys
from collections import Counter
from collections.abc import Sequence

from pipeline.cli.input_text import Line
from pipeline.core.errors import printable

_SHOWN = 10  # words of a warning


class UnknownWords:
    """Words that the run `name` does not know, collected over the lines of an input."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lines: list[Line] = []
        self._counts: Counter[str] = Counter()
        self._read = 0

    def add(self, line: Line, words: Sequence[str]) -> None:
        """Add the unknown words of a line."""
        self._read += 1
        if words:
            self._lines.append(line)
            self._counts.update(words)

    def warn(self) -> None:
        """Print one line on stderr that names the words, the most frequent first, if there are
        any."""
        if not self._counts:
            return
        words = [printable(word) for word, _ in self._counts.most_common(_SHOWN)]
        more = len(self._counts) - len(words)
        named = ", ".join(words) + (f" and {more} more" if more else "")
        where = ""
        if self._lines[0].number is not None:
            where = f" in {len(self._lines)} of {self._read} lines"
        print(f"seqline: {self._name} does not know{where}: {named}", file=sys.stderr)
