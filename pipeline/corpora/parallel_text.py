"""Parallel text: line n of the source files is translated by line n of the target files.

A pair of two blank lines is counted as blank; the tokenize stage rejects a pair with one blank
line."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core import tables
from pipeline.core.errors import refuse
from pipeline.corpora import BLANK, check_files, check_inside, is_blank, read_lines

KIND = "pair"


@dataclass(frozen=True, kw_only=True, slots=True)
class ParallelFiles:
    """Source and target files in the same order; the files of a pair have equally many lines."""

    source: tuple[str, ...]
    target: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.source or len(self.source) != len(self.target):
            raise refuse(
                "target",
                f"{len(self.target)} files",
                f"as many as source ({len(self.source)}), at least one",
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """The files of each split; `all` for rows to be split."""

    files: dict[str, ParallelFiles]

    def __post_init__(self) -> None:
        check_files(self.files)
        for split, names in self.files.items():
            check_inside(f"files.{split}", (*names.source, *names.target))


def read(raw: Path, config: Config) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Read every pair of lines under `raw`; UserError with both line counts if they differ."""
    for split, names in config.files.items():
        for source_name, target_name in zip(names.source, names.target, strict=True):
            for source, target in _paired_lines(raw, source_name, target_name):
                both_blank = pc.and_(is_blank(source), is_blank(target))
                reject = pc.if_else(both_blank, BLANK, pa.scalar(None, pa.string()))
                yield split, pa.record_batch([source, target, reject], schema=tables.RAW_PAIR)


def _paired_lines(
    folder: Path, source_name: str, target_name: str
) -> Iterator[tuple[pa.StringArray, pa.StringArray]]:
    """Read two files in batches with equally many lines of both."""
    source_batches = read_lines(folder, source_name)
    target_batches = read_lines(folder, target_name)
    source = next(source_batches)
    target = next(target_batches)
    count = 0
    while len(source) and len(target):
        step = min(len(source), len(target))
        yield source.slice(0, step), target.slice(0, step)
        count += step

        # Refill an empty side; it stays empty at the end of its file.
        source = source.slice(step)
        target = target.slice(step)
        if not len(source):
            source = next(source_batches, source)
        if not len(target):
            target = next(target_batches, target)

    if len(source) or len(target):
        got = count + len(target) + sum(map(len, target_batches))
        expected = count + len(source) + sum(map(len, source_batches))
        raise refuse(
            str(folder / target_name),
            f"{got} lines",
            f"{expected} lines, as {Path(source_name).name} has",
            "Parallel files must agree line by line.",
        )
