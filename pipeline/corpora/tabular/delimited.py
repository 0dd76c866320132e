"""Rows of lines whose cells a character separates, by the standard library's csv module.

With quotes (RFC 4180) a cell may hold the separator and line breaks. If a quotation mark is
misplaced or never closed, the line that it stands in is a reject, and the next line begins anew: no
other row is lost."""

import csv
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path

from pipeline.core.errors import refuse
from pipeline.corpora import read_lines, tabular
from pipeline.corpora.tabular import Row, missing_column, parts

_UNREADABLE = "a misplaced quotation mark, or a cell that does not end"


def check_columns(columns: Mapping[str, str | int]) -> None:
    """As `tabular.check_columns`; refuse numbers below 0, and names beside numbers as well."""
    tabular.check_columns(columns)
    numbers = [column for column in columns.values() if isinstance(column, int)]
    if numbers and (len(numbers) < len(columns) or min(numbers) < 0):
        got = ", ".join(str(column) for column in columns.values())
        expected = "names of the heading, or numbers from 0 for files without one"
        raise refuse("columns", got, expected)


def rows(
    folder: Path, name: str, columns: Mapping[str, str | int], separator: str, quotes: bool
) -> Iterator[Row]:
    """Rows of the file `name` in the corpus's `folder`.

    Columns with names are found in the heading, the first line that is not blank. Numbers, from 0,
    are for a file without a heading. A row needs as many cells as the first line; any other is a
    reject. UserError for a column that is not there, for a heading without rows, and as
    `read_lines`."""
    path = str(folder / name)
    order = [columns[part] for part in parts(columns)]
    places: list[int] = []
    width = 0
    count = 0
    for cells, text in _parsed(folder, name, separator, quotes):
        if cells is not None and not any(cell.strip() for cell in cells):
            yield Row([""])
            continue

        if not places:
            if cells is None:
                todo = "Correct the line, or set another `format`."
                raise refuse(path, f"a first line with {_UNREADABLE}", "the columns", todo)
            places = _places(path, order, cells)
            width = len(cells)
            if isinstance(order[0], str):
                continue  # the heading

        count += 1
        if cells is None:
            yield Row([text], _UNREADABLE)
        elif len(cells) != width:
            yield Row([text], f"columns: {len(cells)}, expected {width}")
        else:
            yield Row([cells[place] for place in places])

    if not count:
        raise refuse(path, "no row", "one row at least, below the heading", "Name another file.")


def _places(path: str, order: list[str | int], cells: list[str]) -> list[int]:
    """Position of each column in the first line; UserError for one that is not there, or twice."""
    names = [cell.strip() for cell in cells]
    places = []
    for column in order:
        if isinstance(column, int):
            if column >= len(cells):
                todo = "Correct `read.columns`: they are numbered from 0."
                raise refuse(path, f"{len(cells)} columns", f"one of number {column}", todo)
            places.append(column)
        elif names.count(column) > 1:
            raise refuse(path, f"{names.count(column)} columns {column}", "one", "Rename them.")
        elif column not in names:
            raise missing_column(path, column, names)
        else:
            places.append(names.index(column))
    return places


def _parsed(
    folder: Path, name: str, separator: str, quotes: bool
) -> Iterator[tuple[list[str] | None, str]]:
    """Cells of each row, None if it cannot be parsed, and the text of its lines."""
    lines = _Lines(folder, name)
    reader = csv.reader(
        lines,
        delimiter=separator,
        quoting=csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE,
        strict=True,
    )
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield None, lines.keep_first().rstrip("\n")
            continue
        yield cells, lines.keep_all().rstrip("\n")


class _Lines:
    """Lines of a file with their ends, that can be given back."""

    def __init__(self, folder: Path, name: str) -> None:
        self._batches = read_lines(folder, name)
        self._ahead: deque[str] = deque()
        self._taken: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        while not self._ahead:
            self._ahead.extend(next(self._batches).to_pylist())
        line = self._ahead.popleft() + "\n"
        self._taken.append(line)
        return line

    def keep_all(self) -> str:
        """The lines taken since the last call of `keep_...`."""
        text = "".join(self._taken)
        self._taken.clear()
        return text

    def keep_first(self) -> str:
        """The first line taken since the last call of `keep_...`; the others come again."""
        first, *following = self._taken or [""]
        self._ahead.extendleft(line[:-1] for line in reversed(following))
        self._taken.clear()
        return first
