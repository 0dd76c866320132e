"""Texts from the command line or standard input, all of them valid Unicode.

Python represents bytes that it cannot decode as lone surrogates, which pyarrow, JSON and most
streams refuse later.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TextIO

from pipeline.core.errors import UserError, refuse
from pipeline.core.request_text import LONGEST_TEXT, too_long

STDIN = "standard input"
UNDECODED = re.compile("[\udc80-\udcff]")
CONVERT = "Convert it, for example with iconv."


class Line(NamedTuple):
    """One text of the input, or the error in its place: either `text` or `error` is None.

    `number`: that of the line in the input `source`; None for a text by itself."""

    number: int | None
    text: str | None
    error: UserError | None
    source: str = STDIN

    def required(self) -> str:
        """The text; UserError if there is none."""
        if self.error is not None:
            raise self.error
        assert self.text is not None
        return self.text

    def refused(self, error: UserError) -> "Line":
        """Return the same line with an error about its text."""
        where = "" if self.number is None else f"{self.source}, line {self.number}: "
        return Line(self.number, None, UserError(f"{where}{error}"), self.source)


def texts(argument: str | None, file: Path | None = None) -> Iterator[Line]:
    """The command's argument, or the lines of the file or, without both, of standard input as they
    arrive."""
    if argument is not None:
        return iter([checked_line(argument)])
    return lines(sys.stdin) if file is None else _file_lines(file)


def checked_line(text: str) -> Line:
    """A text by itself, or the error in its place."""
    return _line(None, text, "TEXT")


def _file_lines(file: Path) -> Iterator[Line]:
    try:
        with file.open(encoding="utf-8") as stream:
            yield from lines(stream, str(file))
    except OSError as error:
        got = error.strerror or type(error).__name__
        raise refuse(str(file), got, "a file of texts, one a line") from None


def lines(stream: TextIO | None, source: str = STDIN) -> Iterator[Line]:
    """The lines of the stream called `source`, without their ends and without a byte order mark;
    UserError if it cannot be read.

    A line that is too long, or holds bytes that do not belong to the stream's encoding, comes with
    an error in place of a text. In an ASCII locale the stream is read as UTF-8.
    """
    if stream is None:
        raise refuse(STDIN, "closed", "an open one", "Give the text as an argument, or pipe it.")
    if reconfigure := getattr(stream, "reconfigure", None):
        reconfigure(encoding=stream_encoding(stream), errors="surrogateescape")

    number = 0
    try:
        while text := stream.readline(LONGEST_TEXT + 2):
            number += 1
            content = text
            # Read to the end of a line that is too long, without storing it.
            while not text.endswith("\n") and (text := stream.readline(LONGEST_TEXT)):
                content += text if len(content) <= LONGEST_TEXT else ""

            content = content.removesuffix("\n")
            content = content.removeprefix("\ufeff") if number == 1 else content
            yield _line(number, content, source)
    except OSError as error:
        raise refuse(
            source, error.strerror or type(error).__name__, "a text that can be read"
        ) from None


def _line(number: int | None, text: str, where: str) -> Line:
    line = "" if number is None else f", line {number}"
    if undecoded := UNDECODED.search(text):
        byte = ord(undecoded[0]) - 0xDC00
        error = refuse(where, f"byte {byte:#04x}{line}", "UTF-8", CONVERT)
        return Line(number, None, error, where)
    if len(text) > LONGEST_TEXT:
        error = too_long(where, f"more than {LONGEST_TEXT} characters{line}")
        return Line(number, None, error, where)
    return Line(number, text, None, where)


def stream_encoding(stream: TextIO) -> str:
    """Encoding of the stream, but UTF-8 in place of ASCII, which Python takes in a locale without a
    name."""
    name = (stream.encoding or "ascii").lower()
    return "utf-8" if name in ("ascii", "us-ascii", "ansi_x3.4-1968") else name
