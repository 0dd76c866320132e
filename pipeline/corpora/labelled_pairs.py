"""A premise, a hypothesis and a label per line, such as SNLI's: tab-separated columns, whose names
are in each file's first line, or JSON objects.

Tab-separated lines have no quoting: a quotation mark is a character, and a tab always separates.
Lines that lack a column or a key are rejects, and so are those with a label that is not named."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core import tables
from pipeline.core.errors import refuse
from pipeline.corpora import (
    BLANK,
    check_files_inside,
    check_labels,
    is_blank,
    is_unicode,
    read_lines,
)

KIND = "labelled_pair"

Row = tuple[str, str, str, str | None]
"""Premise, hypothesis, label and the reason of a reject."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """The files of each split (`all` for rows to be split), their form, the columns or keys of
    premise, hypothesis and label, and the labels that are read.

    SNLI's pairs without a majority have the label `-`."""

    files: dict[str, tuple[str, ...]]
    form: Literal["tsv", "jsonl"]
    premise: str
    hypothesis: str
    label: str
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        check_files_inside(self.files)
        names = (self.premise, self.hypothesis, self.label)
        if len(set(names)) < len(names) or not all(names):
            expected = "three columns, of premise, hypothesis and label"
            raise refuse("premise", ", ".join(names), expected)
        if len(set(self.labels)) < max(2, len(self.labels)):
            raise refuse(
                "labels", ", ".join(self.labels) or "none", "two labels at least, each once"
            )
        check_labels("labels", self.labels)


def read(raw: Path, config: Config) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Read every line of every file under `raw`; a malformed line is kept whole in `premise`."""
    for split, names in config.files.items():
        for name in names:
            chunks = read_lines(raw, name)
            columns: list[str] = []
            if config.form == "tsv":
                first = next(chunks)
                columns = _header(first[0].as_py(), raw / name, config)
                yield split, _batch(first[1:], columns, config)
            for lines in chunks:
                yield split, _batch(lines, columns, config)


def _header(line: str, path: Path, config: Config) -> list[str]:
    """Names of the columns; UserError if one that is read is missing or there twice."""
    names = line.split("\t")
    for name in (config.premise, config.hypothesis, config.label):
        if names.count(name) != 1:
            got = f"{names.count(name)} columns {name}"
            expected = f"one in its first line: {', '.join(names)[:100]}"
            raise refuse(str(path), got, expected, "Correct the names under `read`.")
    return names


def _batch(lines: pa.StringArray, columns: list[str], config: Config) -> pa.RecordBatch:
    """A batch of RAW_LABELLED_PAIR; `columns`: names of tab-separated columns, none for JSON."""
    blank = is_blank(lines).to_pylist()
    rows: list[Row] = []
    for line, is_empty in zip(lines.to_pylist(), blank, strict=True):
        if is_empty:
            rows.append(("", "", "", BLANK))
        else:
            rows.append(_tsv_row(line, columns, config) if columns else _json_row(line, config))
    values = list(zip(*rows, strict=True)) or [(), (), (), ()]
    batch = pa.record_batch(
        [pa.array(column, pa.string()) for column in values], schema=tables.RAW_LABELLED_PAIR
    )

    # A label that is not read: the row keeps its first reason.
    known = pc.is_in(batch["label"], pa.array(config.labels, pa.string()))
    reason = pc.binary_join_element_wise("label ", batch["label"], "")
    reject = pc.coalesce(batch["reject"], pc.if_else(known, pa.scalar(None, pa.string()), reason))
    return batch.set_column(3, "reject", reject)


def _tsv_row(line: str, columns: list[str], config: Config) -> Row:
    cells = line.split("\t")
    if len(cells) < len(columns):
        return line, "", "", f"too few columns: {len(cells)} of {len(columns)}"
    row = dict(zip(columns, cells, strict=False))
    return row[config.premise], row[config.hypothesis], row[config.label], None


def _json_row(line: str, config: Config) -> Row:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return line, "", "", "no JSON"
    values = []
    for key in (config.premise, config.hypothesis, config.label):
        value = row.get(key) if isinstance(row, dict) else None
        if not isinstance(value, str) or not is_unicode(value):
            return line, "", "", f"no text under the key {key}"
        values.append(value)
    return values[0], values[1], values[2], None
