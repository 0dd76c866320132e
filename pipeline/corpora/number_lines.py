"""Rows of numbers, one per line, separated by spaces: the inputs, and last the value that a model
predicts from them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from pipeline.core.errors import refuse
from pipeline.corpora import check_files_inside, inputs_and_values, read_numbers

KIND = "series"


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """The files of each split (`all` for rows to be split)."""

    files: dict[str, tuple[str, ...]]

    def __post_init__(self) -> None:
        check_files_inside(self.files)


def read(raw: Path, config: Config) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Read the rows of each split; UserError for lines with a single number, or with different
    numbers of numbers."""
    columns = None
    for split, names in config.files.items():
        for name in names:
            rows = read_numbers(raw, name)
            columns = columns or max(rows.shape[1], 2)
            if rows.shape[1] != columns:
                got = f"{rows.shape[1]} numbers in a line"
                expected = f"{columns}: the inputs and a value, as in the other files"
                raise refuse(str(raw / name), got, expected, "Correct the file.")
            yield split, inputs_and_values(rows)
