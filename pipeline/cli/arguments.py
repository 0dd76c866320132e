"""Arguments of the command line: their types, one-line errors, and output in any locale."""

import argparse
import json
import math
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from pipeline.cli.input_text import CONVERT, UNDECODED, stream_encoding
from pipeline.core import config
from pipeline.core.errors import UserError, printable, refuse
from pipeline.flow import MOST_JOBS

_MOST_CHOICES = 12  # that a message lists
_SHOWN = 60  # characters of a wrong argument that its message repeats


class Parser(argparse.ArgumentParser):
    """A parser that reports a mistake in one line and without the usage, as all commands do.

    `page` is shown in place of argparse's own help, if it is set. An epilog keeps its lines."""

    page: str | None = None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.formatter_class = _HelpFormatter

    def format_help(self) -> str:
        """Return the help."""
        return super().format_help() if self.page is None else self.page

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Refuse a word that is none of the choices, with the nearest one."""
        if action.choices is None or value in action.choices:
            return
        choices = [str(choice) for choice in action.choices]
        few = len(choices) <= _MOST_CHOICES
        expected = f"one of {', '.join(choices)}" if few else "a name that the help lists"
        message = f"got {_shortened(str(value))}; expected {expected}."
        raise argparse.ArgumentError(action, f"{message} {config.nearest(value, choices)}".rstrip())

    def error(self, message: str) -> NoReturn:
        text = message.removeprefix("argument ").rstrip(".")
        stop = "" if text.endswith("?") else "."
        raise UserError(f"{text}{stop} See `{self.prog} --help`.")


class _HelpFormatter(argparse.HelpFormatter):
    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if "\n" in text else super()._fill_text(text, width, indent)


def whole_number(least: int, largest: int) -> Callable[[str], int]:
    """Return an argparse `type` for whole numbers from `least` to `largest`, both included; any
    other argument gets a one-line error."""

    def parse(word: str) -> int:
        if re.fullmatch(r"\s*[-+]?[0-9]{1,30}\s*", word) and least <= int(word) <= largest:
            return int(word)
        raise argparse.ArgumentTypeError(
            f"got {_shortened(word)}; expected a whole number from {least} to {largest}."
        )

    return parse


PORT = whole_number(1, 65_535)
SEED = whole_number(-(2**63), 2**63 - 1)
_JOBS = whole_number(1, MOST_JOBS)


def add_jobs(parser: argparse.ArgumentParser) -> None:
    """Add the option `--jobs`."""
    parser.add_argument(
        "--jobs", type=_JOBS, metavar="N", help="stages to run at a time (default: one per core)"
    )


def add_server(parser: argparse.ArgumentParser, port: int) -> None:
    """Add the options of a server on loopback, whose default port is `port`."""
    parser.add_argument("--port", type=PORT, metavar="N", default=port)
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="HOST[:PORT]",
        help="accept requests for this host name too, such as a proxy's",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add the option `--json`."""
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")


def print_json(value: Any) -> None:
    """Print JSON values; numbers that JSON cannot write, such as infinity, as null."""
    print(json.dumps(_finite(value), indent=2))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def decode(words: Sequence[str]) -> list[str]:
    """Decode the words of the command line as UTF-8; UserError for one that is not, be it a text, a
    name or a path."""
    return [_decode(word) for word in words]


def _decode(word: str) -> str:
    if not UNDECODED.search(word):
        return word
    raw = os.fsencode(word)
    try:
        # A locale of ASCII leaves every letter beyond it undecoded.
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        readable = raw.decode("utf-8", "backslashreplace")
        raise refuse(
            f"argument '{_shortened(readable)}'", f"byte {raw[error.start]:#04x}", "UTF-8", CONVERT
        ) from None


def prepare_output() -> None:
    """Let standard output accept every character: in UTF-8 in an ASCII locale, else with escapes
    where needed."""
    if reconfigure := getattr(sys.stdout, "reconfigure", None):
        reconfigure(encoding=stream_encoding(sys.stdout), errors="backslashreplace")


def print_escaped(text: str) -> None:
    """Print lines with names and labels from outside, whose control characters are escaped."""
    print("\n".join(printable(line) for line in text.split("\n")))


def _shortened(word: str) -> str:
    return word if len(word) <= _SHOWN else f"{word[:_SHOWN]}..."
