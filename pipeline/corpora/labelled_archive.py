"""A tar.gz with one text per file and one label per folder, such as the IMDb reviews.

The archive is read as a stream and never unpacked. A file's line breaks become spaces, as all white
space does."""

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from tarfile import TarInfo
from typing import IO

import pyarrow as pa

from pipeline.core import tables
from pipeline.core.errors import UserError, not_utf8, refuse
from pipeline.corpora import check_files, check_inside, check_labels, corpus_file
from pipeline.download import tar_stream

KIND = "labelled"
_MOST_TEXT = 1 << 20  # bytes of one text
_BATCH = 1 << 20  # characters of texts per batch


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """The archive, and its folders by split (`all` for rows to be split) and label."""

    archive: str
    folders: dict[str, dict[str, tuple[str, ...]]]

    def __post_init__(self) -> None:
        check_files(self.folders)
        check_inside("archive", [self.archive])
        for split, labels in self.folders.items():
            check_labels(f"folders.{split}", labels)
        folders = [
            folder
            for labels in self.folders.values()
            for label_folders in labels.values()
            for folder in label_folders
        ]
        if not folders or len(folders) > len(set(folders)):
            got = ", ".join(folders) or "none"
            raise refuse("folders", got, "folders, each under one split and label")


def read(raw: Path, config: Config) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Read every file of the folders, in the archive's order; UserError if it lacks a folder."""
    split_and_label = {
        folder: (split, label)
        for split, labels in config.folders.items()
        for label, folders in labels.items()
        for folder in folders
    }
    path = corpus_file(raw, config.archive)
    missing = set(split_and_label)
    for folder, texts in _batches(path, set(split_and_label)):
        split, label = split_and_label[folder]
        missing.discard(folder)
        columns = [
            pa.array(texts, pa.string()),
            pa.repeat(label, len(texts)),
            pa.nulls(len(texts), pa.string()),
        ]
        yield split, pa.record_batch(columns, schema=tables.RAW_LABELLED)

    if missing:
        raise refuse(
            str(path),
            f"no file in {min(missing)}",
            "files in every folder of `read`",
            "Correct the folder's name.",
        )


def _batches(path: Path, folders: set[str]) -> Iterator[tuple[str, list[str]]]:
    """(folder, texts): consecutive files of one folder, about a million characters at a time."""
    for folder, pairs in groupby(_texts(path, folders), key=lambda pair: pair[0]):
        texts = []
        size = 0
        for _, text in pairs:
            texts.append(text)
            size += len(text)
            if size > _BATCH:
                yield folder, texts
                texts = []
                size = 0
        if texts:
            yield folder, texts


def _texts(path: Path, folders: set[str]) -> Iterator[tuple[str, str]]:
    try:
        with gzip.open(path) as file:
            for info, stream in tar_stream.members(file, path.stat().st_size):
                folder = tar_stream.name_of(info).rpartition("/")[0]
                if folder in folders:
                    yield folder, _text(path, info, stream)
    except FileNotFoundError:
        raise refuse(
            str(path),
            "no such file",
            "the corpus's archive",
            "Correct `read.archive`, or run `dvc repro`.",
        ) from None
    # From `_text`. It is a ValueError, which READ_ERRORS contains.
    except UserError:
        raise
    except tar_stream.READ_ERRORS as error:
        got = tar_stream.describe(error)
        raise refuse(
            str(path), got, "a tar.gz that can be read", "Delete it and run `dvc repro`."
        ) from None


def _text(path: Path, info: TarInfo, stream: IO[bytes]) -> str:
    where = f"{path}: {tar_stream.name_of(info)}"
    if info.size > _MOST_TEXT:
        raise refuse(
            where,
            f"{info.size} bytes",
            f"a text of {_MOST_TEXT} bytes at most",
            "Leave the file out.",
        )
    data = stream.read()
    if refusal := not_utf8(where, data):
        raise refusal
    return data.decode("utf-8-sig")  # skips a byte order mark
