"""One text per line. Blank lines are not rows: they separate paragraphs, which are numbered within
each split.

The corpus may have benchmarks of word vectors. Word similarity: tables of pairs of words that
people scored, separated by commas or tabs, with a heading line. Analogies: the format of word2vec's
questions-words.txt, four words per line, in sections that begin with a line `: name`."""

import csv
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core import tables
from pipeline.core.errors import refuse
from pipeline.corpora import (
    BLANK,
    check_files_inside,
    check_inside,
    read_lines,
    read_paragraphs,
)

KIND = "text"


@dataclass(frozen=True, kw_only=True, slots=True)
class Similarity:
    """A word similarity benchmark: its name, its file, and the headings of the words and of the
    score."""

    name: str
    file: str
    first: str
    second: str
    score: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Benchmarks:
    """Benchmarks of word vectors: word similarity, with the one that ranks the runs first, and a
    file of analogies or null."""

    similarity: tuple[Similarity, ...]
    analogies: str | None

    def __post_init__(self) -> None:
        names = [table.name for table in self.similarity]
        for i, name in enumerate(names):
            if not re.fullmatch("[a-z0-9_]+", name) or name in ("analogies", "classes", *names[:i]):
                raise refuse(
                    f"similarity[{i}].name",
                    name,
                    "names of small letters, digits and _, each once, and not analogies or classes",
                )
        for i, table in enumerate(self.similarity):
            check_inside(f"similarity[{i}].file", [table.file])
        if self.analogies is not None:
            check_inside("analogies", [self.analogies])


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """The files of each split, read in this order (`all` for rows to be split), and the benchmarks
    of word vectors or null."""

    files: dict[str, tuple[str, ...]]
    benchmarks: Benchmarks | None

    def __post_init__(self) -> None:
        check_files_inside(self.files)


def read(raw: Path, config: Config) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Read every line of every file under `raw`; a new file begins a new paragraph."""
    for split, names in config.files.items():
        for texts, numbers, blank in read_paragraphs(raw, names):
            yield split, _batch(texts, numbers, blank)


def benchmarks(raw: Path, config: Config) -> Iterator[tuple[str, pa.Table]]:
    """Read the word similarity benchmarks in the order of the block, then the analogies."""
    if config.benchmarks is None:
        return
    for columns in config.benchmarks.similarity:
        yield columns.name, _similarity(raw, columns)
    if config.benchmarks.analogies is not None:
        yield "analogies", _analogies(raw, config.benchmarks.analogies)


def _similarity(raw: Path, columns: Similarity) -> pa.Table:
    path = raw / columns.file
    heading, *rows = _texts(raw, columns.file) or [""]
    delimiter = "\t" if "\t" in heading else ","
    names = _cells(heading, delimiter)

    required = (columns.first, columns.second, columns.score)
    for name in required:
        if name not in names:
            raise refuse(
                str(path),
                f"the columns {', '.join(names)}",
                f"a column {name!r}",
                "Correct `read`.",
            )
    first, second, score = (names.index(name) for name in required)

    scored = []
    for line in rows:
        row = _cells(line, delimiter)
        if len(row) <= max(first, second, score) or not _is_number(row[score]):
            raise refuse(
                str(path),
                line[:100],
                f"{len(names)} columns, the one called {columns.score!r} a number",
            )
        scored.append((row[first], row[second], float(row[score])))
    return _benchmark_table(
        path, scored, "at least one pair of words below the heading", tables.BENCHMARK_SIMILARITY
    )


def _cells(line: str, delimiter: str) -> list[str]:
    """Split a line of a table into its columns; none if it cannot be parsed."""
    try:
        return next(csv.reader([line], delimiter=delimiter))
    except csv.Error:
        return []


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _analogies(raw: Path, name: str) -> pa.Table:
    path = raw / name
    section = ""
    analogies = []
    for line in _texts(raw, name):
        words = line.split()
        if words[0] == ":":
            section = " ".join(words[1:])
        elif len(words) == 4:
            analogies.append((section, *words))
        else:
            raise refuse(str(path), line[:100], "four words, or a colon and a section's name")
    return _benchmark_table(
        path, analogies, "at least one line of four words", tables.BENCHMARK_ANALOGIES
    )


def _benchmark_table(
    path: Path, rows: list[tuple[Any, ...]], expected: str, schema: pa.Schema
) -> pa.Table:
    if not rows:
        raise refuse(str(path), "an empty benchmark", expected, "Fix the file, or `read`.")
    return pa.table([list(column) for column in zip(*rows, strict=True)], schema=schema)


def _texts(raw: Path, name: str) -> list[str]:
    return [text for batch in read_lines(raw, name) for text in batch.to_pylist() if text.strip()]


def _batch(
    texts: pa.StringArray, paragraphs: np.ndarray[tuple[int], np.dtype[np.int64]], empty: pa.Array
) -> pa.RecordBatch:
    columns = [
        texts,
        pa.array(paragraphs, pa.int64()),
        pa.nulls(len(texts), pa.float64()),
        pc.if_else(empty, BLANK, pa.scalar(None, pa.string())),
    ]
    return pa.record_batch(columns, schema=tables.RAW_TEXT)
