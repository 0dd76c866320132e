"""Markdown as a person reads it on a terminal."""

import sys
from typing import ClassVar

from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import Markdown, MarkdownElement, TableElement
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text
from rich.theme import Theme

from pipeline.cli.arguments import print_escaped
from pipeline.core.errors import printable

_THEME = Theme({"markdown.code": "bold cyan"})  # rich's has a black background


class _Table(TableElement):
    """A table; one that is wider than the terminal is shown as a list for each of its rows."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        [table] = super().__rich_console__(console, options)
        assert isinstance(table, Table)
        unlimited = options.update(max_width=sys.maxsize)
        if Measurement.get(console, unlimited, table).minimum <= options.max_width:
            yield table
            return

        assert self.header is not None
        assert self.header.row is not None
        assert self.body is not None
        titles = [cell.content for cell in self.header.row.cells]
        for row in self.body.rows:
            grid = Table.grid(padding=(0, 2))
            for title, cell in zip(titles, row.cells, strict=True):
                grid.add_row(Text(title.plain, "markdown.table.header"), Text(cell.content.plain))
            yield grid
            yield Text("")


class _TerminalMarkdown(Markdown):
    elements: ClassVar[dict[str, type[MarkdownElement]]] = {
        **Markdown.elements,
        "table_open": _Table,
    }


def print_markdown(text: str) -> None:
    """Print Markdown with names and texts from outside: laid out on a terminal, elsewhere as it
    is."""
    if not sys.stdout.isatty():
        print_escaped(text)
        return
    lines = [printable(line) for line in text.split("\n")]
    Console(theme=_THEME).print(_TerminalMarkdown("\n".join(lines)))
