"""A prompt on a terminal: a text a line, with a history of earlier ones."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from pipeline.cli.input_text import Line, checked_line
from pipeline.core import state_dir

_MOST_LINES = 1000  # of the history


def is_possible() -> bool:
    """Return whether a person types on a terminal and reads the answers there."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))


def lines(root: Path, command: str, hint: str) -> Iterator[Line]:
    """The texts that are typed, without blank ones, until Ctrl-D. Ctrl-C discards a text.

    The arrow keys bring back earlier texts, also those of earlier sessions of the command."""
    print(f"{hint} Ctrl-D ends.", file=sys.stderr)
    with _history(root / state_dir.PROMPTS / command):
        while True:
            try:
                text = input(f"{command}> ")
            except EOFError:
                print()
                return
            except KeyboardInterrupt:
                print()
                continue
            if text.strip():
                yield checked_line(text)


@contextlib.contextmanager
def _history(file: Path) -> Iterator[None]:
    """Let `input` have the keys of readline, and the history in the file, where there is one."""
    try:
        import readline
    except ImportError:  # Python without it
        yield
        return

    readline.clear_history()
    readline.set_history_length(_MOST_LINES)
    # A history that cannot be read or written keeps nobody from typing.
    with contextlib.suppress(OSError):
        readline.read_history_file(file)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            readline.write_history_file(file)
            file.chmod(0o600)
