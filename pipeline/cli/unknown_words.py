"""Warnings about words that a run does not know, and what it knows."""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pipeline.cli.input_text import Line
from pipeline.core.errors import printable
from pipeline.predictor import unknown_words
from pipeline.runs.sample_text import sample_text
from pipeline.runs.trained import NamedRun
from pipeline.text.encode import Codec
from pipeline.text.specials import SPECIALS

_SHOWN = 10  # words of a warning
_SMALL = 5_000  # words of a corpus whose models answer few texts from elsewhere


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

    def warn(self) -> bool:
        """Print one line on stderr that names the words, the most frequent first, if there are
        any; return whether there are."""
        if not self._counts:
            return False
        words = [printable(word) for word, _ in self._counts.most_common(_SHOWN)]
        more = len(self._counts) - len(words)
        named = ", ".join(words) + (f" and {more} more" if more else "")
        where = ""
        if self._lines[0].number is not None:
            where = f" in {len(self._lines)} of {self._read} lines"
        print(f"seqline: {self._name} does not know{where}: {named}", file=sys.stderr)
        return True


class SmallCorpusHint:
    """A line on stderr about the corpus of a run that does not know words, if the corpus has few:
    their number, and a text to try. It is printed once."""

    def __init__(self, root: Path, run: NamedRun, codec: Codec | None) -> None:
        self._root, self._run, self._codec = root, run, codec
        self._is_printed = False

    def print_once(self) -> None:
        """Print the line, unless it is printed already."""
        codec, corpus = self._codec, self._run.corpus
        words = _SMALL if codec is None or codec.level != "word" else codec.size - len(SPECIALS)
        if self._is_printed or words >= _SMALL:
            return
        self._is_printed = True
        sample = sample_text(self._root, self._run.task, corpus)
        knows_all = sample is not None and unknown_words(codec, [sample]) == [[]]
        example = f'; a text for it: "{printable(sample)}"' if sample and knows_all else ""
        print(f"seqline: {corpus} has only {words:,} words{example}", file=sys.stderr)
