"""One text per line, and every line a row: a blank line is a row without tokens.

This is how language models of WikiText are usually read: with an end mark for each line, also the
blank ones around headings (test: 241,211 words and 4,358 ends, 245,569 tokens). `text_lines` takes
blank lines as gaps between paragraphs instead, and reads 244,102."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.core import tables
from pipeline.corpora import check_files_inside, read_paragraphs

KIND = "text"
BLANK_LINES_ARE_ROWS = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """The files of each split, read in this order (`all` for rows to be split)."""

    files: dict[str, tuple[str, ...]]

    def __post_init__(self) -> None:
        check_files_inside(self.files)


def read(raw: Path, config: Config) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Read every line of every file under `raw`. A new file begins a new paragraph, as does the
    first line after a blank one."""
    for split, names in config.files.items():
        for texts, numbers, _ in read_paragraphs(raw, names):
            columns = [
                texts,
                pa.array(np.maximum(numbers, 0), pa.int64()),
                pa.nulls(len(texts), pa.float64()),
                pa.nulls(len(texts), pa.string()),
            ]
            yield split, pa.record_batch(columns, schema=tables.RAW_TEXT)
