"""JSON Lines: an object in each line. The keys are the columns."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.corpora import is_blank, read_lines, tabular
from pipeline.corpora.tabular import Config, Row

__all__ = ["Config", "kind", "read"]

kind = tabular.kind


def read(raw: Path, config: Config) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Read the object of every line of every file under `raw`.

    A line without an object, and one that lacks a part, is a reject. UserError for a key that no
    line of a file has."""
    return tabular.read(config, lambda name: _rows(raw, name, config))


def _rows(folder: Path, name: str, config: Config) -> Iterator[Row]:
    columns = {part: config.columns[part] for part in tabular.parts(config.columns)}
    absent = set(columns.values())
    first: dict[str, Any] | None = None
    for texts in read_lines(folder, name):
        blank = is_blank(texts).to_pylist()
        for text, empty in zip(texts.to_pylist(), blank, strict=True):
            if empty:
                yield Row([""])
                continue

            record = _object(text)
            if record is None:
                yield Row([text], "no JSON object")
                continue
            first = record if first is None else first
            values = {part: _value(record, column) for part, column in columns.items()}
            absent -= {columns[part] for part, value in values.items() if value is not None}
            yield tabular.row_of(values, text)

    if absent and first is not None:
        raise tabular.missing_column(str(folder / name), min(absent), list(first))


def _object(text: str) -> dict[str, Any] | None:
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _value(record: dict[str, Any], column: str) -> Any:
    """Value of the key, or at the end of the path that it is; None if there is none."""
    if column in record:
        return record[column]
    value: Any = record
    for key in column.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value
