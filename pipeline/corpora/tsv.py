"""Tab-separated values with a heading: a tab always separates, and a quotation mark is a character.
For cells in quotation marks, use `csv` with `separator: "\\t"`."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from pipeline.corpora import check_files_inside, tabular
from pipeline.corpora.tabular import delimited


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """The files of each split, read in this order (`all` for rows to be split), and the column of
    each part: source and target, or text and label, or text.

    A column is its name in the heading, or its number, from 0, in files without a heading."""

    files: dict[str, tuple[str, ...]]
    columns: dict[str, str | int]

    def __post_init__(self) -> None:
        check_files_inside(self.files)
        delimited.check_columns(self.columns)


kind = tabular.kind


def read(raw: Path, config: Config) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Read every line of every file under `raw`."""
    return tabular.read(
        config, lambda name: delimited.rows(raw, name, config.columns, "\t", quotes=False)
    )
