"""The help of `seqline` itself: the commands by purpose, and the exit statuses."""

import textwrap
from collections.abc import Iterable, Mapping

_WIDTH = 80
_INDENT = 14

EXIT_STATUSES = {
    "0": "done",
    "1": "the command ran, but a stage failed (`run`, `retrain`), a check failed (`doctor`), or "
    "something needs attention (`status`)",
    "2": "refused: a mistake that you can correct, explained in one line",
    "130": "ended by Ctrl-C",
    "141": "the reader of the output closed it, as `head` does",
    "143": "ended by SIGTERM",
}


def help_page(groups: Mapping[str, Mapping[str, str]]) -> str:
    """Return the page for commands with their one-line descriptions, by group."""
    parts = [
        "usage: seqline COMMAND [ARGUMENTS]\n"
        "       seqline COMMAND --help     the arguments of a command, with examples\n"
        "       seqline                    what to do first in this project\n"
        "       seqline --version",
        "Train and compare every classic family of sequence model.",
    ]
    parts += [_section(title, commands.items()) for title, commands in groups.items()]
    parts.append(_section("exit status", EXIT_STATUSES.items()))
    parts.append("NO_COLOR=1 turns colors off. Commands with `--json` print JSON for scripts.")
    return "\n\n".join(parts) + "\n"


def _section(title: str, rows: Iterable[tuple[str, str]]) -> str:
    lines = [f"{title}:"]
    for name, text in rows:
        first, *further = textwrap.wrap(text, _WIDTH - _INDENT)
        lines.append(f"  {name:{_INDENT - 2}}{first}")
        lines += [" " * _INDENT + line for line in further]
    return "\n".join(lines)
