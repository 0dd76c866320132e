"""Two parallel texts: line n of the source files is translated by line n of the target files.

A line that is blank on both sides is counted as blank; one that is blank on one side is for
`tokenize` to reject."""

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
    """The files of both sides, in the same order and of the same numbers of lines, file by file."""

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
    """The files of each split; `all` for what is yet to be split."""

    files: dict[str, ParallelFiles]

    def __post_init__(self) -> None:
        check_files(self.files)
        for split, sides in self.files.items():
            check_inside(f"files.{split}", (*sides.source, *sides.target))


def read(raw: Path, config: Config) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Every pair of lines under `raw`; UserError with both line counts if two files differ in
    them."""
    for split, sides in config.files.items():
        for source_name, target_name in zip(sides.source, sides.target, strict=True):
            for source, target in _together(raw, source_name, target_name):
                neither = pc.and_(is_blank(source), is_blank(target))
                reject = pc.if_else(neither, BLANK, pa.scalar(None, pa.string()))
                yield split, pa.record_batch([source, target, reject], schema=tables.RAW_PAIR)


def _together(
    folder: Path, source: str, target: str
) -> Iterator[tuple[pa.StringArray, pa.StringArray]]:
    """Both files' lines in step, however unequal the batches that they arrive in."""
    sources, targets = read_lines(folder, source), read_lines(folder, target)
    a, b = next(sources), next(targets)
    count = 0
    while len(a) and len(b):
        step = min(len(a), len(b))
        yield a.slice(0, step), b.slice(0, step)
        count += step
        a = a.slice(step) if len(a) > step else next(sources, a.slice(step))
        b = b.slice(step) if len(b) > step else next(targets, b.slice(step))
    if len(a) or len(b):
        target_lines = f"{count + len(b) + sum(map(len, targets))} lines"
        expected = f"{count + len(a) + sum(map(len, sources))} lines, as {Path(source).name} has"
        raise refuse(
            str(folder / target), target_lines, expected, "Parallel files must agree line by line."
        )
