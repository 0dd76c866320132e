"""One text per line. Blank lines are no rows: they separate paragraphs, which are numbered through each split."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import tables
from pipeline.corpora import BLANK, blank, check_files, lines

KIND = "text"


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """The files of each split, read in this order; `all` for what is yet to be split."""

    files: dict[str, tuple[str, ...]]

    def __post_init__(self) -> None:
        check_files(self.files)


def read(raw: Path, config: Config) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Every line of every file under `raw`; a new file begins a new paragraph."""
    for split, names in config.files.items():
        paragraph, inside = -1, False
        for name in names:
            inside = False
            for texts in lines(raw / name):
                empty = blank(texts)
                gaps = empty.to_numpy(zero_copy_only=False)
                begins = ~gaps & np.concatenate([[not inside], gaps[:-1]])
                numbers = paragraph + np.cumsum(begins)
                paragraph, inside = int(numbers[-1]), not gaps[-1]
                yield split, _batch(texts, numbers, empty)


def _batch(texts: pa.StringArray, paragraphs: np.ndarray[tuple[int], np.dtype[np.int64]], empty: pa.Array) -> pa.RecordBatch:
    columns = [
        texts,
        pa.array(paragraphs, pa.int64()),
        pa.nulls(len(texts), pa.float64()),
        pc.if_else(empty, BLANK, pa.scalar(None, pa.string())),
    ]
    return pa.record_batch(columns, schema=tables.RAW_TEXT)
