"""Pairs in two columns of tab-separated lines, such as Tatoeba's; other columns are ignored.

There is no quoting: a quotation mark is a character, and a tab always separates. A line with too
few columns is a reject."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core import tables
from pipeline.core.errors import refuse
from pipeline.corpora import BLANK, check_files_inside, is_blank, read_lines

KIND = "pair"


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """The files of each split (`all` for rows to be split), and the columns, from 0, of source and
    target."""

    files: dict[str, tuple[str, ...]]
    source_column: int
    target_column: int

    def __post_init__(self) -> None:
        check_files_inside(self.files)
        if min(self.source_column, self.target_column) < 0:
            raise refuse(
                "source_column",
                self.source_column,
                f"a column from 0, as target_column ({self.target_column})",
            )
        if self.source_column == self.target_column:
            raise refuse("target_column", self.target_column, "another column than source_column's")


def read(raw: Path, config: Config) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Read every line of every file under `raw`; a malformed line is kept whole in `source`."""
    for split, names in config.files.items():
        for name in names:
            for texts in read_lines(raw, name):
                yield split, _batch(texts, config)


def _batch(texts: pa.StringArray, config: Config) -> pa.RecordBatch:
    columns = pc.split_pattern(texts, "\t")
    counts = pc.list_value_length(columns)
    needed = max(config.source_column, config.target_column) + 1
    short = pc.less(counts, needed)

    reason = pc.binary_join_element_wise(
        "too few columns: ", pc.cast(counts, pa.string()), f" of {needed}", ""
    )
    reject = pc.if_else(
        is_blank(texts), BLANK, pc.if_else(short, reason, pa.scalar(None, pa.string()))
    )

    # Take both columns of all lines at once from the flattened cells.
    values = columns.flatten()
    starts = columns.offsets.to_numpy()[:-1]
    source = pc.if_else(short, texts, _column(values, starts + config.source_column))
    target = pc.if_else(short, "", _column(values, starts + config.target_column))
    return pa.record_batch([source, target, reject], schema=tables.RAW_PAIR)


def _column(
    values: pa.StringArray, positions: np.ndarray[tuple[int], np.dtype[np.int32]]
) -> pa.StringArray:
    """Take the values at `positions`; clamp those past the end, which only short lines have and
    whose values are not used."""
    return values.take(pa.array(np.minimum(positions, len(values) - 1)))
