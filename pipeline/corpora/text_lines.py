"""One text per line. Blank lines are no rows: they separate paragraphs, which are numbered through each split.

Beside the text may lie what word vectors are judged by: pairs of words that people scored, as a table with a heading line,
its columns set apart by commas or tabs, and analogies as in word2vec's questions-words.txt, four words a line in sections
that lines with a colon begin.
"""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import tables
from pipeline.corpora import BLANK, blank, check_files, lines
from pipeline.errors import refuse

KIND = "text"


@dataclass(frozen=True, kw_only=True, slots=True)
class Similarity:
    """A table of scored pairs: what it is called, its file, and the headings of both words and of the score."""

    name: str
    file: str
    first: str
    second: str
    score: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Judges:
    """What judges word vectors: tables of scored pairs, the one that ranks first, and a file of analogies or null."""

    similarity: tuple[Similarity, ...]
    analogies: str | None

    def __post_init__(self) -> None:
        names = [one.name for one in self.similarity]
        for i, name in enumerate(names):
            if not re.fullmatch("[a-z0-9_]+", name) or name in ("analogies", "classes", *names[:i]):
                said = "names of small letters, digits and _, each once, and not analogies or classes"
                raise refuse(f"similarity[{i}].name", name, said)


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """The files of each split, read in this order; `all` for what is yet to be split. `judges` null: there are none."""

    files: dict[str, tuple[str, ...]]
    judges: Judges | None

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


def judges(raw: Path, config: Config) -> Iterator[tuple[str, pa.Table]]:
    """The tables of scored pairs in the order of the block, then the analogies."""
    if config.judges is None:
        return
    for columns in config.judges.similarity:
        yield columns.name, _similarity(raw, columns)
    if config.judges.analogies is not None:
        yield "analogies", _analogies(raw / config.judges.analogies)


def _similarity(raw: Path, columns: Similarity) -> pa.Table:
    heading, *rows = _texts(raw / columns.file)
    apart = "\t" if "\t" in heading else ","
    names = next(csv.reader([heading], delimiter=apart))
    wanted = (columns.first, columns.second, columns.score)
    for name in wanted:
        if name not in names:
            raise refuse(str(raw / columns.file), f"the columns {', '.join(names)}", f"a column {name!r}", "Mend `read`.")
    first, second, score = (names.index(name) for name in wanted)
    found = [(row[first], row[second], float(row[score])) for row in csv.reader(rows, delimiter=apart)]
    return pa.table([list(column) for column in zip(*found, strict=True)], schema=tables.JUDGE_SIMILARITY)


def _analogies(path: Path) -> pa.Table:
    section, found = "", []
    for line in _texts(path):
        words = line.split()
        if words[0] == ":":
            section = " ".join(words[1:])
        elif len(words) == 4:
            found.append((section, *words))
        else:
            raise refuse(str(path), line, "four words, or a colon and a section's name")
    return pa.table([list(column) for column in zip(*found, strict=True)], schema=tables.JUDGE_ANALOGIES)


def _texts(path: Path) -> list[str]:
    return [text for batch in lines(path) for text in batch.to_pylist() if text.strip()]


def _batch(texts: pa.StringArray, paragraphs: np.ndarray[tuple[int], np.dtype[np.int64]], empty: pa.Array) -> pa.RecordBatch:
    columns = [
        texts,
        pa.array(paragraphs, pa.int64()),
        pa.nulls(len(texts), pa.float64()),
        pc.if_else(empty, BLANK, pa.scalar(None, pa.string())),
    ]
    return pa.record_batch(columns, schema=tables.RAW_TEXT)
