"""One file per format of corpus; the file's name is the `format` in `params.yaml`.

A format exports:
- `KIND`: a key of `tables.TOKENS`, such as "text" or "pair"; or `kind(config)`, if the block `read`
  decides it;
- `Config`: the block `read`;
- `read(raw, config) -> Iterator[(split, batch)]`: a stream of batches in the kind's
  `tables.RAW_...`. `split` is an official one (train, valid, test, ...), or `all` for rows that the
  stage has to split. Rows that cannot be used have the reason in `reject`. Blank lines have
  `BLANK`: they are counted, but are neither rows nor rejects;
- optionally `BLANK_LINES_ARE_ROWS = True`: lines without text are rows without tokens;
- optionally `benchmarks(raw, config) -> Iterator[(name, table)]`: benchmarks of the corpus's word
  vectors, in `tables.BENCHMARK_CLASSES`, `BENCHMARK_SIMILARITY` or `BENCHMARK_ANALOGIES`. The
  first one ranks the runs.

This module reads lines for the formats. A line ends with LF or CRLF and with nothing else: U+0085,
U+2028, form feeds and lone carriage returns stay inside their line. A byte order mark at a file's
beginning is skipped."""

import codecs
import math
import os
import re
import stat
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.core import tables
from pipeline.core.errors import not_utf8, refuse

BLANK = "blank line"
_BLOCK = 1 << 20
_BINARY = {  # by their first bytes
    b"PK\x03\x04": ("a zip archive", "Name the zip itself in `source.path`, which unpacks it."),
    b"\x1f\x8b": ("a gzip file", "Unpack it: gzip -d."),
    b"BZh": ("a bzip2 file", "Unpack it: bzip2 -d."),
    b"\xfd7zXZ\0": ("an xz file", "Unpack it: xz -d."),
    b"PAR1": ("a Parquet file", "Set `format: parquet`."),
}
# Zero-width characters that are part of words in Persian and Hindi, and of emoji.
_JOINERS = dict.fromkeys((0x200C, 0x200D))


def read_lines(folder: Path, name: str) -> Iterator[pa.StringArray]:
    """Read the lines of the file `name` in the corpus's `folder`, without their ends, about a MiB
    at a time.

    UserError if the file is absent, empty, not UTF-8, or where DVC would not notice its changes
    (see `corpus_file`)."""
    count = 0
    path = folder / name
    with open_file(folder, name) as file:
        beginning = file.read(6)
        _refuse_binary(path, beginning)
        file.seek(3 if beginning.startswith(codecs.BOM_UTF8) else 0)

        # Each block ends with a whole line.
        while block := file.read(_BLOCK) + file.readline():
            lines = _split_lines(block, path, file.tell() - len(block), count)
            count += len(lines)
            yield lines

    if not count:
        raise refuse(
            str(path), "an empty file", "at least one line", "Name another file or fetch it again."
        )


def kind_of(reader: ModuleType, config: Any) -> str:
    """Kind of a corpus of the format `reader` with the block `read` in `config`."""
    return str(reader.kind(config) if hasattr(reader, "kind") else reader.KIND)


def open_file(folder: Path, name: str) -> BinaryIO:
    """Open the file `name` in the corpus's `folder`; UserError if it is absent or no regular file,
    and as `corpus_file`."""
    path = corpus_file(folder, name)
    file = _open(path)
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    todo = "Correct the name under `read`."
    raise refuse(str(path), "no regular file", "a file of the corpus", todo)


def read_paragraphs(
    folder: Path, names: Sequence[str]
) -> Iterator[tuple[pa.StringArray, NDArray[np.int64], pa.BooleanArray]]:
    """Read the lines of files as `read_lines`, with the number of each line's paragraph, and
    whether the line is blank.

    Blank lines separate paragraphs; a new file begins a new one. A blank line has the number of the
    paragraph before it, -1 if there is none."""
    paragraph = -1
    for name in names:
        inside = False  # whether the last line was part of a paragraph
        for texts in read_lines(folder, name):
            blank = is_blank(texts)
            gaps = blank.to_numpy(zero_copy_only=False)
            # A paragraph begins with a line that follows a gap.
            begins = ~gaps & np.concatenate([[not inside], gaps[:-1]])
            numbers = paragraph + np.cumsum(begins)
            paragraph = int(numbers[-1])
            inside = not gaps[-1]
            yield texts, numbers, blank


def read_numbers(folder: Path, name: str) -> NDArray[np.float64]:
    """Read the numbers of a file, separated by spaces: a row per line, with as many in each.

    UserError for a line with something else, and as `read_lines`."""
    rows: list[list[float]] = []
    for texts in read_lines(folder, name):
        for text in texts.to_pylist():
            where = f"{folder / name}: line {len(rows) + 1}"
            row = [_number(word, where) for word in text.split()]
            if not row or len(row) != len(rows[0] if rows else row):
                expected = f"{len(rows[0])}, as the first line has" if rows else "at least one"
                raise refuse(where, f"{len(row)} numbers", expected, "Correct or remove the line.")
            rows.append(row)
    return np.array(rows)


def inputs_and_values(rows: NDArray[np.float64]) -> pa.RecordBatch:
    """`tables.RAW_NUMBERS` of rows of numbers, whose last one is the value."""
    count, columns = rows.shape
    bounds = pa.array(np.arange(count + 1, dtype=np.int32) * (columns - 1))
    inputs = pa.ListArray.from_arrays(bounds, pa.array(rows[:, :-1].ravel()))
    reasons = pa.nulls(count, pa.string())
    return pa.record_batch(
        [inputs, pa.array(rows[:, -1].copy()), reasons], schema=tables.RAW_NUMBERS
    )


def corpus_file(folder: Path, name: str) -> Path:
    """Path of the file `name` of a corpus in its folder; UserError if a folder of the path is a
    link, since DVC does not follow it.

    Links to single files, such as those of DVC's cache, are allowed: DVC compares the contents of
    their targets."""
    path = folder / name
    for parent in path.parents:
        if parent == folder:
            break
        if parent.is_symlink():
            todo = "Put a copy of the files there, so that a change of them is noticed."
            raise refuse(str(path), f"the link {parent}", "a folder of the corpus", todo)
    return path


def is_blank(texts: pa.StringArray) -> pa.BooleanArray:
    """Mark lines that consist of white space only."""
    return pc.equal(pc.utf8_trim_whitespace(texts), "")


def is_unicode(text: str) -> bool:
    """Whether a text has no lone surrogate, which JSON can write and UTF-8 cannot."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def check_files_inside(files: Mapping[str, Sequence[str]]) -> None:
    """As `check_files`, for splits that are lists of files: none may lie outside of the corpus's
    folder."""
    check_files(files)
    for split, names in files.items():
        check_inside(f"files.{split}", names)


def check_files(files: Mapping[str, object]) -> None:
    """Refuse a `files` block without splits, or with a split that cannot be a table's name; for
    `Config.__post_init__`."""
    if not files:
        raise refuse("files", "no split", "files under train, valid, test, ... or under all")
    for name in files:
        if not re.fullmatch("[a-z0-9_]+", name) or name == "rejects":
            raise refuse(
                "files",
                name,
                "splits named with small letters, digits and _, and not rejects",
                "Rename it.",
            )


def check_inside(key: str, names: Iterable[str]) -> None:
    """Refuse a file, named under `key`, outside the corpus's folder: DVC would not notice its
    changes."""
    for name in names:
        path = PurePosixPath(name)
        if not path.parts or path.is_absolute() or ".." in path.parts or "\0" in name:
            raise refuse(
                key,
                name or "no name",
                "a file in the corpus's folder",
                "Name it under `source` as well.",
            )


def check_labels(key: str, names: Iterable[str]) -> None:
    """Refuse labels, named under `key`, that are invisible in a report or that look alike."""
    by_form: dict[str, str] = {}
    for name in names:
        visible = name.translate(_JOINERS)
        if not visible.strip() or name != name.strip() or not visible.isprintable():
            raise refuse(
                key,
                repr(name),
                "labels of printable characters, without spaces around them",
                "Rename it.",
            )

        # NFKC and case folding map labels that look alike to the same form.
        first = by_form.setdefault(unicodedata.normalize("NFKC", visible).casefold(), name)
        if first != name:
            expected = "labels that differ in more than case or form"
            raise refuse(key, f"the labels {first} and {name}", expected, "Rename one.")


def _number(word: str, where: str) -> float:
    try:
        number = float(word)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise refuse(where, word[:60], "a finite number", "Correct or remove the line.")
    return number


def _open(path: Path) -> BinaryIO:
    try:
        # O_NONBLOCK: opening a pipe would block.
        return open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))
    except FileNotFoundError:
        names = sorted(file.name for file in path.parent.glob("*") if file.is_file())
        expected = "one of " + ", ".join(names) if names else "a file of the corpus"
        raise refuse(
            str(path),
            "no such file",
            expected,
            "Correct the name under `read`, or run `dvc repro` if nothing was downloaded.",
        ) from None
    except OSError as error:
        problem = (error.strerror or type(error).__name__).lower()
        raise refuse(
            str(path), problem, "a file of the corpus", "Correct the name under `read`."
        ) from None


def _refuse_binary(path: Path, beginning: bytes) -> None:
    """Refuse a file that begins like one of another kind than text."""
    for magic, (kind, todo) in _BINARY.items():
        if beginning.startswith(magic):
            raise refuse(str(path), kind, "a text file", todo)


def _split_lines(block: bytes, path: Path, offset: int, count: int) -> pa.StringArray:
    """Split a block after each LF, without a copy; `offset` and `count` say where it begins in the
    file, in bytes and lines."""
    if refusal := not_utf8(str(path), block, offset, count + 1):
        raise refusal

    # The lines are an Arrow array over the block's own bytes: only its offsets are computed.
    ends = np.flatnonzero(np.frombuffer(block, np.uint8) == 0x0A) + 1
    if not block.endswith(b"\n"):
        ends = np.append(ends, len(block))
    bounds = np.concatenate([[0], ends]).astype(np.int32)
    lines = pa.StringArray.from_buffers(len(ends), pa.py_buffer(bounds), pa.py_buffer(block))
    return pc.ascii_rtrim(lines, characters="\r\n")
