"""CSV (RFC 4180): cells with commas between them, and quotation marks around those that hold
commas, quotation marks or line breaks. The separator may be another character."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from pipeline.core.errors import refuse
from pipeline.corpora import check_files_inside, tabular
from pipeline.corpora.tabular import delimited


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """The files of each split, read in this order (`all` for rows to be split); the column of each
    part: source and target, or text and label, or text; and the character between cells.

    A column is its name in the heading, or its number, from 0, in files without a heading."""

    files: dict[str, tuple[str, ...]]
    columns: dict[str, str | int]
    separator: str

    def __post_init__(self) -> None:
        check_files_inside(self.files)
        delimited.check_columns(self.columns)
        if len(self.separator) != 1 or self.separator in '"\r\n':
            expected = 'one character, such as ",", ";" or "\\t", and no quotation mark'
            raise refuse("separator", repr(self.separator), expected)


kind = tabular.kind


def read(raw: Path, config: Config) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Read every row of every file under `raw`."""
    return tabular.read(
        config,
        lambda name: delimited.rows(raw, name, config.columns, config.separator, quotes=True),
    )
