"""One paragraph per line, cut into sentences: for running text whose full stops stand apart, such
as WikiText (d2l 15.9).

A sentence ends after a full stop between spaces, which it keeps. Every line that is not blank is a
paragraph of its own."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core import tables
from pipeline.corpora import BLANK, check_files, check_inside, is_blank, read_lines

KIND = "text"
_STOP, _CUT = " . ", " .\n"  # no line has a line feed in it


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """The files of each split, read in this order; `all` for what is yet to be split."""

    files: dict[str, tuple[str, ...]]

    def __post_init__(self) -> None:
        check_files(self.files)
        for split, names in self.files.items():
            check_inside(f"files.{split}", names)


def read(raw: Path, config: Config) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Every sentence of every file under `raw`."""
    for split, names in config.files.items():
        paragraph = 0
        for name in names:
            for texts in read_lines(raw, name):
                cut = pc.split_pattern(
                    pc.replace_substring(pc.utf8_trim_whitespace(texts), _STOP, _CUT), "\n"
                )
                sentences = cut.flatten()
                numbers = paragraph + pc.list_parent_indices(cut).to_numpy().astype(np.int64)
                paragraph += len(texts)
                reject = pc.if_else(is_blank(sentences), BLANK, pa.scalar(None, pa.string()))
                columns = [
                    sentences,
                    pa.array(numbers),
                    pa.nulls(len(sentences), pa.float64()),
                    reject,
                ]
                yield split, pa.record_batch(columns, schema=tables.RAW_TEXT)
