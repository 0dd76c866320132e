"""Commands with their outputs in a terminal, as a picture in SVG."""

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

_ROWS = 60
# The fonts of rich's template are on another host.
_TEMPLATE = re.sub(r"@font-face \{\{.*?\}\}\n", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL).replace(
    "Fira Code", "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas"
)


def output(command: str, folder: Path, environment: Mapping[str, str], columns: int) -> str:
    """Run the command in a terminal of so many columns; return what it printed.

    RuntimeError if it fails."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, columns, 0, 0))
    process = subprocess.Popen(
        ["bash", "-c", command],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    printed = b""
    while part := _read(ours):
        printed += part
    os.close(ours)
    text = printed.decode().replace("\r\n", "\n")
    if process.wait() != 0:
        raise RuntimeError(f"{command} ended with status {process.returncode}:\n{text}")
    return text


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # all processes have closed their end
        return b""


def picture(screens: Sequence[tuple[str, str]], columns: int) -> str:
    """The commands and what they printed, with its colors, as SVG."""
    console = Console(
        record=True, width=columns, file=io.StringIO(), force_terminal=True, highlight=False
    )
    for number, (command, printed) in enumerate(screens):
        if number:
            console.print()
        console.print(Text.assemble(("$ ", "bold green"), (command, "bold")))
        console.print(Text.from_ansi(printed.strip("\n")), overflow="fold")
    return console.export_svg(title="~/seqline", code_format=_TEMPLATE, unique_id="terminal")
