"""One text per line, and one label per file, such as rt-polarity.pos and .neg."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core import tables
from pipeline.core.errors import refuse
from pipeline.corpora import BLANK, check_files, check_inside, check_labels, is_blank, read_lines

KIND = "labelled"


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """The files by split (`all` for rows to be split) and label."""

    files: dict[str, dict[str, tuple[str, ...]]]

    def __post_init__(self) -> None:
        check_files(self.files)
        for split, labels in self.files.items():
            if not any(labels.values()):
                raise refuse(f"files.{split}", "no file", "files under the name of each label")
            check_labels(f"files.{split}", labels)
            files = [name for names in labels.values() for name in names]
            check_inside(f"files.{split}", files)

            repeated = [name for name, count in Counter(files).items() if count > 1]
            if repeated:
                expected = "each file once, under one label"
                raise refuse(
                    f"files.{split}", f"{repeated[0]} twice", expected, "Remove one of them."
                )


def read(raw: Path, config: Config) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Read every line of every file under `raw`, label by label."""
    for split, labels in config.files.items():
        for label, names in labels.items():
            for name in names:
                for texts in read_lines(raw, name):
                    reject = pc.if_else(is_blank(texts), BLANK, pa.scalar(None, pa.string()))
                    columns = [texts, pa.repeat(label, len(texts)), reject]
                    yield split, pa.record_batch(columns, schema=tables.RAW_LABELLED)
