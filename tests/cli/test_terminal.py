"""What commands print on a terminal: tables that fit, and colors unless NO_COLOR is set."""

import os
import pty
import re
import subprocess
import sys
import termios
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = """# rnn and lstm

`rnn` is worse.

| pair of settings | difference | interval | p | significant |
| --- | ---: | ---: | ---: | --- |
| `rnn` – `lstm` | +0.42 | -1.23 to +2.07 | 0.480 | no |
| `rnn` – \x1b[2Jgru | +1.00 | +0.50 to +1.50 | 0.010 | yes |
"""
PROGRAM = """
import sys
from pipeline.cli.terminal import print_markdown
print_markdown(sys.argv[1])
"""
COLOR = re.compile(r"\x1b\[[\d;]*m")


def on_terminal(columns: int, **environment: str) -> str:
    """The text as it looks on a terminal of so many columns."""
    ours, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (40, columns))
    env = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS")}
    env |= {"TERM": "xterm-256color", "PYTHONPATH": str(ROOT), **environment}
    command = [sys.executable, "-c", PROGRAM, TEXT]
    with subprocess.Popen(command, env=env, stdin=terminal, stdout=terminal) as process:
        os.close(terminal)
        shown = b""
        try:
            while block := os.read(ours, 65536):
                shown += block
        except OSError:  # nobody is left at the other end
            pass
    os.close(ours)
    assert process.returncode == 0
    return shown.decode()


def test_a_wide_terminal_shows_tables_with_columns() -> None:
    lines = [COLOR.sub("", line) for line in on_terminal(100).splitlines()]
    [row] = [line for line in lines if "+0.42" in line]
    assert re.fullmatch(r" rnn – lstm +\+0\.42 +-1\.23 to \+2\.07 +0\.480 +no +", row)
    assert not any("|" in line for line in lines)


def test_a_narrow_terminal_shows_a_list_for_each_row() -> None:
    lines = [COLOR.sub("", line).rstrip() for line in on_terminal(36).splitlines()]
    assert max(map(len, lines)) <= 36
    assert [line.split("  ")[0] for line in lines if "+0.42" in line] == ["difference"]
    assert len([line for line in lines if line.startswith("significant")]) == 2


def test_text_from_outside_cannot_steer_the_terminal() -> None:
    assert "\x1b[2J" not in on_terminal(100)


@pytest.mark.parametrize("no_color", ["1", ""])
def test_no_color_is_honored(no_color: str) -> None:
    styles = set(COLOR.findall(on_terminal(100, NO_COLOR=no_color)))
    # 30 to 49 and 90 to 107 are colors; 1 to 9 are bold, underlined and so on.
    numbers = {int(number) for style in styles for number in re.findall(r"\d+", style)}
    colors = {number for number in numbers if number >= 30}
    assert bool(colors) == (no_color == "")


def test_a_pipe_gets_markdown_as_it_is() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, TEXT],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == TEXT.replace("\x1b", "\\x1b") + "\n"
