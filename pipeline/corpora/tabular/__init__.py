"""Rows of files with named columns, for the formats `csv`, `tsv`, `jsonl` and `parquet`.

`columns` names the column of each part of a row. The parts decide the kind of the corpus:

    {source: en, target: fr}        pairs, for translation
    {text: review, label: stars}    labelled texts, for classification
    {premise: a, hypothesis: b, label: c}    labelled pairs, for natural language inference
    {text: article}                 texts; each row is a paragraph of its own

A row that cannot be used is a reject: the reason takes its place, and its raw text is kept."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from pipeline.core import tables
from pipeline.core.errors import UserError, refuse
from pipeline.corpora import BLANK, check_files_inside, check_labels, is_unicode

KINDS = {
    ("text",): "text",
    ("source", "target"): "pair",
    ("text", "label"): "labelled",
    ("premise", "hypothesis", "label"): "labelled_pair",
}
"""Kind of a corpus by its parts, in the order of a row's cells."""

_ROWS = 4096  # of a batch at most
_CHARACTERS = 1 << 20  # of a batch, about
_MOST_LABELS = 1000


class Row(NamedTuple):
    """The cells of the parts, in the order of `KINDS`; or the raw text alone, and why it is no
    row."""

    cells: Sequence[str]
    reject: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """The files of each split, read in this order (`all` for rows to be split), and the column of
    each part.

    A dot leads into a column of columns: `translation.en`."""

    files: dict[str, tuple[str, ...]]
    columns: dict[str, str]

    def __post_init__(self) -> None:
        check_files_inside(self.files)
        check_columns(self.columns)


def check_columns(columns: Mapping[str, str | int]) -> None:
    """Refuse parts that make no kind of corpus, and a column that is two parts."""
    if not any(set(columns) == set(parts) for parts in KINDS):
        raise refuse(
            "columns",
            ", ".join(columns) or "none",
            "source and target (translation), text and label (classification), premise, "
            "hypothesis and label (inference), or text",
            "Name the column of each.",
        )
    if len(set(columns.values())) < len(columns):
        raise refuse("columns", "one column twice", "a column for each of " + ", ".join(columns))


def parts(columns: Mapping[str, Any]) -> tuple[str, ...]:
    """Parts of a row in the order of its cells."""
    return next(names for names in KINDS if set(names) == set(columns))


def kind(config: Any) -> str:
    """Kind of a corpus with these `columns`."""
    return KINDS[parts(config.columns)]


def read(config: Any, rows: Callable[[str], Iterator[Row]]) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Batch the rows of each file of `config.files`, which `rows` reads by the file's name."""
    batch = {
        "text": _texts,
        "pair": _pairs,
        "labelled": _Labelled(tables.RAW_LABELLED).batch,
        "labelled_pair": _Labelled(tables.RAW_LABELLED_PAIR).batch,
    }[kind(config)]
    for split, names in config.files.items():
        paragraph = 0
        for name in names:
            for chunk in _chunks(rows(name)):
                yield split, batch(chunk, paragraph)
                paragraph += len(chunk)


def missing_column(path: str, name: str, names: Sequence[str]) -> UserError:
    """The error for a column that the file lacks; `names` are those it has."""
    shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    got = f"the columns {shown}" if shown else "no columns"
    return refuse(path, got, f"one called {name}", "Correct `read.columns`.")


def text_of(value: Any) -> str | None:
    """The text of a value out of JSON or Parquet: numbers and true are written out; None for what
    is no text."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if isinstance(value, int | float) else None


def row_of(values: Mapping[str, Any], raw: str) -> Row:
    """Row of the values of the parts, in their order; a reject with the text `raw` if one is null
    or no text."""
    cells = []
    for part, value in values.items():
        cell = text_of(value)
        if cell is None or not is_unicode(cell):
            problem = "missing" if value is None else "no text"
            return Row([raw.encode("utf-8", "replace").decode()], f"{part} is {problem}")
        cells.append(cell)
    return Row(cells)


def _chunks(rows: Iterator[Row]) -> Iterator[list[Row]]:
    chunk: list[Row] = []
    size = 0
    for row in rows:
        chunk.append(row)
        size += sum(map(len, row.cells))
        if len(chunk) == _ROWS or size > _CHARACTERS:
            yield chunk
            chunk = []
            size = 0
    if chunk:
        yield chunk


def _column(rows: Sequence[Row], part: int) -> pa.StringArray:
    """Cells of a part; a reject has its raw text in the first one."""
    cells = [row.cells[part] if part < len(row.cells) else "" for row in rows]
    return pa.array(cells, pa.string())


def _rejects(rows: Sequence[Row]) -> pa.StringArray:
    """Reasons of the rejects; `BLANK` for a row whose cells are all blank."""
    reasons = [
        row.reject or (None if any(cell.strip() for cell in row.cells) else BLANK) for row in rows
    ]
    return pa.array(reasons, pa.string())


def _texts(rows: Sequence[Row], paragraph: int) -> pa.RecordBatch:
    numbers = pa.array(np.arange(paragraph, paragraph + len(rows)), pa.int64())
    columns = [_column(rows, 0), numbers, pa.nulls(len(rows), pa.float64()), _rejects(rows)]
    return pa.record_batch(columns, schema=tables.RAW_TEXT)


def _pairs(rows: Sequence[Row], _: int) -> pa.RecordBatch:
    columns = [_column(rows, 0), _column(rows, 1), _rejects(rows)]
    return pa.record_batch(columns, schema=tables.RAW_PAIR)


class _Labelled:
    """Batches of labelled texts or pairs, whose last cell is the label. All labels of the corpus
    are compared."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._labels: dict[str, None] = {}

    def batch(self, rows: Sequence[Row], _: int) -> pa.RecordBatch:
        """UserError for labels that look alike, and for so many that they are none."""
        checked = [_with_label(row) for row in rows]
        labels = {row.cells[-1]: None for row in checked if not row.reject and len(row.cells) > 1}
        if not labels.keys() <= self._labels.keys():
            self._labels |= labels
            check_labels("columns.label", self._labels)
        if len(self._labels) > _MOST_LABELS:
            raise refuse(
                "read.columns.label",
                f"a column with over {_MOST_LABELS} labels",
                "one with the name of a class in each row",
                "Name another column.",
            )
        columns = [_column(checked, part) for part in range(len(self._schema) - 1)]
        return pa.record_batch([*columns, _rejects(checked)], schema=self._schema)


def _with_label(row: Row) -> Row:
    """The row without spaces around its label; a reject if that is empty or invisible."""
    if row.reject or len(row.cells) < 2:
        return row
    *texts, label = row.cells
    label = label.strip()
    if not label and any(text.strip() for text in texts):
        return Row(["\t".join(texts)], "label is empty")
    if label and not label.isprintable():
        return Row(["\t".join(texts)], "label is not printable")
    return Row([*texts, label])
