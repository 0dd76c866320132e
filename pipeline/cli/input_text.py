"""Texts from the command line or standard input, all of them valid Unicode.

Python represents bytes that it cannot decode as lone surrogates, which pyarrow, JSON and most
streams refuse later.
"""

import re
import sys
from collections.abc import Iterator
from typing import NamedTuple, TextIO

from pipeline.core.errors import UserError, refuse
from pipeline.core.request_text import LONGEST_TEXT, too_long

STDIN = "standard input"
UNDECODED = re.compile("[\udc80-\udcff]")
CONVERT = "Convert it, for example with iconv."


class Line(NamedTuple):
    """One text of the input, or the error in its place: either `text` or `error` is None."""

    number: int | None
    text: str | None
    error: UserError | None

    def required(self) -> str:
        """The text; UserError if there is none."""
        if self.error is not None:
            raise self.error
        assert self.text is not None
        return self.text

    def refused(self, error: UserError) -> "Line":
        """Return the same line with an error about its text."""
        where = "" if self.number is None else f"{STDIN}, line {self.number}: "
        return Line(self.number, None, UserError(f"{where}{error}"))


def texts(argument: str | None) -> Iterator[Line]:
    """The command's argument or, without one, the lines of standard input as they arrive."""
    if argument is None:
        return lines(sys.stdin)
    return iter([_line(None, argument)])


def lines(stream: TextIO | None) -> Iterator[Line]:
    """The stream's lines without their ends and without a byte order mark; UserError if it cannot
    be read.

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
            yield _line(number, content.removeprefix("\ufeff") if number == 1 else content)
    except OSError as error:
        raise refuse(
            STDIN, error.strerror or type(error).__name__, "a text that can be read"
        ) from None


def _line(number: int | None, text: str) -> Line:
    where = STDIN if number is not None else "TEXT"
    line = "" if number is None else f", line {number}"
    if undecoded := UNDECODED.search(text):
        byte = ord(undecoded[0]) - 0xDC00
        return Line(number, None, refuse(where, f"byte {byte:#04x}{line}", "UTF-8", CONVERT))
    if len(text) > LONGEST_TEXT:
        return Line(number, None, too_long(where, f"more than {LONGEST_TEXT} characters{line}"))
    return Line(number, text, None)


def stream_encoding(stream: TextIO) -> str:
    """Encoding of the stream, but UTF-8 in place of ASCII, which Python takes in a locale without a
    name."""
    name = (stream.encoding or "ascii").lower()
    return "utf-8" if name in ("ascii", "us-ascii", "ansi_x3.4-1968") else name
