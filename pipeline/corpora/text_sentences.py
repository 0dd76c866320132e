"""One paragraph per line, split into sentences: for text with spaces around its full stops, such as
WikiText (d2l 15.9).

A sentence ends with a full stop between spaces. Each line that is not blank is a paragraph."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core import tables
from pipeline.corpora import (
    BLANK,
    check_files_inside,
    is_blank,
    read_lines,
)

KIND = "text"
# A line never contains a line feed, so it can mark the end of a sentence.
_STOP = " . "
_STOP_AND_BREAK = " .\n"


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """The files of each split, read in this order; `all` for rows to be split."""

    files: dict[str, tuple[str, ...]]

    def __post_init__(self) -> None:
        check_files_inside(self.files)


def read(raw: Path, config: Config) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Read every sentence of every file under `raw`."""
    for split, names in config.files.items():
        paragraph = 0
        for name in names:
            for texts in read_lines(raw, name):
                marked = pc.replace_substring(
                    pc.utf8_trim_whitespace(texts), _STOP, _STOP_AND_BREAK
                )
                split_texts = pc.split_pattern(marked, "\n")
                sentences = split_texts.flatten()

                parents = pc.list_parent_indices(split_texts).to_numpy().astype(np.int64)
                numbers = paragraph + parents
                paragraph += len(texts)

                columns = [
                    sentences,
                    pa.array(numbers),
                    pa.nulls(len(sentences), pa.float64()),
                    pc.if_else(is_blank(sentences), BLANK, pa.scalar(None, pa.string())),
                ]
                yield split, pa.record_batch(columns, schema=tables.RAW_TEXT)
