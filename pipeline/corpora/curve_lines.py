"""Points of a curve, one per line: a place, a space, and the height there, which is predicted."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from pipeline.core.errors import refuse
from pipeline.corpora import check_files_inside, inputs_and_values, read_numbers

KIND = "numbers"


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """The files of each split (`all` for rows to be split)."""

    files: dict[str, tuple[str, ...]]

    def __post_init__(self) -> None:
        check_files_inside(self.files)


def read(raw: Path, config: Config) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Read the points of each split; UserError for a file that has not two numbers in each line."""
    for split, names in config.files.items():
        for name in names:
            rows = read_numbers(raw, name)
            if rows.shape[1] != 2:
                got = f"{rows.shape[1]} numbers in a line"
                raise refuse(str(raw / name), got, "a place and a height", "Correct the file.")
            yield split, inputs_and_values(rows)
