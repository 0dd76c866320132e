"""One file per format of corpus; the file's name is the `format` in `params.yaml`.

A format exports `KIND` ("text", "pair" or "labelled"), `Config` (the block `read`) and
`read(raw, config) -> Iterator[(split, batch)]`: batches in the kind's `tables.RAW_...`, streaming, where `split` is an
official one (train, valid, test, ...) or `all` for what the stage has to split. Rows that cannot be used carry the
reason in `reject`; blank lines carry `BLANK`: they are counted but are neither rows nor rejects.
A format may export `judges(raw, config) -> Iterator[(name, table)]` too: what word vectors of its corpus are judged by, in
`tables.JUDGE_CLASSES`, `JUDGE_SIMILARITY` or `JUDGE_ANALOGIES`, the judge that is to rank first.

What the formats share lives here: reading lines. A line ends with LF or CRLF and with nothing else, so that U+0085, U+2028,
form feeds and lone carriage returns stay inside their line. A byte order mark at a file's beginning is skipped.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import refuse

BLANK = "blank line"
_BLOCK = 1 << 20


def lines(path: Path) -> Iterator[pa.StringArray]:
    """The file's lines without their ends, about a MiB at a time; UserError if it is absent, empty or not UTF-8."""
    number = 0
    with _opened(path) as file:
        if file.read(3) != b"\xef\xbb\xbf":
            file.seek(0)
        while block := file.read(_BLOCK) + file.readline():
            found = _split(block, path, file.tell() - len(block), number)
            number += len(found)
            yield found
    if not number:
        raise refuse(str(path), "an empty file", "at least one line", "Name another file or fetch it again.")


def blank(texts: pa.StringArray) -> pa.BooleanArray:
    """Which lines hold nothing but white space."""
    return pc.equal(pc.utf8_trim_whitespace(texts), "")


def check_files(files: Mapping[str, object]) -> None:
    """Refuse a `files` block that names no split, or one that no table can be called; for `Config.__post_init__`."""
    if not files:
        raise refuse("files", "no split", "files under train, valid, test, ... or under all")
    for name in files:
        if not re.fullmatch("[a-z0-9_]+", name) or name == "rejects":
            raise refuse("files", name, "splits named with small letters, digits and _, and not rejects", "Rename it.")


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except FileNotFoundError:
        there = sorted(file.name for file in path.parent.glob("*") if file.is_file())
        expected = "one of " + ", ".join(there) if there else "a file of the corpus"
        raise refuse(
            str(path), "no such file", expected, "Mend the name under `read`, or run `dvc repro` if nothing was downloaded."
        ) from None


def _split(block: bytes, path: Path, offset: int, number: int) -> pa.StringArray:
    try:
        block.decode("utf-8")
    except UnicodeDecodeError as error:
        line = number + block.count(b"\n", 0, error.start) + 1
        got = f"byte 0x{block[error.start]:02x} at offset {offset + error.start}, line {line}"
        raise refuse(str(path), got, "UTF-8", "Convert the file, for example with iconv.") from None
    ends = np.flatnonzero(np.frombuffer(block, np.uint8) == 0x0A) + 1
    if not block.endswith(b"\n"):
        ends = np.append(ends, len(block))
    bounds = np.concatenate([[0], ends]).astype(np.int32)
    found = pa.StringArray.from_buffers(len(ends), pa.py_buffer(bounds), pa.py_buffer(block))
    return pc.ascii_rtrim(found, characters="\r\n")
