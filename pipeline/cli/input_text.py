"""Texts of the command line and standard input, all of them valid Unicode.

Python represents bytes that it cannot decode as lone surrogates, which pyarrow, JSON and most
streams refuse later."""

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, NoReturn, TextIO

from pipeline.core.errors import UserError, refuse
from pipeline.texts import LONGEST_TEXT, too_long

STDIN = "standard input"
_UNDECODED = re.compile("[\udc80-\udcff]")
_CONVERT = "Convert it, for example with iconv."
_SHOWN = 60  # characters of a wrong argument that its message repeats


class Line(NamedTuple):
    """A text to answer, or the error in its place: either `text` or `error` is None."""

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


def arguments(words: Sequence[str]) -> list[str]:
    """The words of the command line; UserError for one that is not UTF-8, be it a text, a name or a
    path."""
    return [_argument(word) for word in words]


def _argument(word: str) -> str:
    if not _UNDECODED.search(word):
        return word
    raw = os.fsencode(word)
    try:
        return raw.decode("utf-8")  # a locale of ASCII leaves every letter beyond it undecoded
    except UnicodeDecodeError as error:
        readable = raw.decode("utf-8", "backslashreplace")
        raise refuse(
            f"argument '{_shortened(readable)}'", f"byte {raw[error.start]:#04x}", "UTF-8", _CONVERT
        ) from None


def texts(argument: str | None) -> Iterator[Line]:
    """The command's argument or, without one, the lines of standard input as they arrive."""
    if argument is None:
        return lines(sys.stdin)
    return iter([_line(None, argument)])


def lines(stream: TextIO | None) -> Iterator[Line]:
    """The stream's lines without their ends and without a byte order mark; UserError if it cannot
    be read.

    A line that is too long, or holds bytes that do not belong to the stream's encoding, comes with
    an error in place of a text. In an ASCII locale the stream is read as UTF-8."""
    if stream is None:
        raise refuse(STDIN, "closed", "an open one", "Give the text as an argument, or pipe it.")
    if reconfigure := getattr(stream, "reconfigure", None):
        reconfigure(encoding=_encoding(stream), errors="surrogateescape")
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
    if undecoded := _UNDECODED.search(text):
        byte = ord(undecoded[0]) - 0xDC00
        return Line(number, None, refuse(where, f"byte {byte:#04x}{line}", "UTF-8", _CONVERT))
    if len(text) > LONGEST_TEXT:
        return Line(number, None, too_long(where, f"more than {LONGEST_TEXT} characters{line}"))
    return Line(number, text, None)


def _encoding(stream: TextIO) -> str:
    """Encoding of the stream, but UTF-8 in place of ASCII, which Python takes in a locale without a
    name."""
    name = (stream.encoding or "ascii").lower()
    return "utf-8" if name in ("ascii", "us-ascii", "ansi_x3.4-1968") else name


def prepare_output() -> None:
    """Let standard output accept every character: in UTF-8 in an ASCII locale, else with escapes
    where needed."""
    if reconfigure := getattr(sys.stdout, "reconfigure", None):
        reconfigure(encoding=_encoding(sys.stdout), errors="backslashreplace")


def whole_number(least: int, largest: int) -> Callable[[str], int]:
    """Return an argparse `type` for whole numbers in a range; it refuses any other word in one
    short line."""

    def parse(word: str) -> int:
        if re.fullmatch(r"\s*[-+]?[0-9]{1,30}\s*", word) and least <= int(word) <= largest:
            return int(word)
        raise argparse.ArgumentTypeError(
            f"got {_shortened(word)}; expected a whole number from {least} to {largest}."
        )

    return parse


def _shortened(word: str) -> str:
    return word if len(word) <= _SHOWN else f"{word[:_SHOWN]}..."


class Parser(argparse.ArgumentParser):
    """A parser that reports a mistake in one line, as every other part of the command does, without
    the usage."""

    def error(self, message: str) -> NoReturn:
        raise UserError(
            f"{message.removeprefix('argument ').rstrip('.')}. See `{self.prog} --help`."
        )
