"""A tar.gz of folders named under the label of all their files, one text a file, such as the IMDb
reviews.

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
_BATCH = 1 << 20  # bytes of texts held at a time


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """The archive, and its folders by split (`all` for what is yet to be split) and, within it, by
    label."""

    archive: str
    folders: dict[str, dict[str, tuple[str, ...]]]

    def __post_init__(self) -> None:
        check_files(self.folders)
        check_inside("archive", [self.archive])
        for split, labels in self.folders.items():
            check_labels(f"folders.{split}", labels)
        named = [
            folder
            for labels in self.folders.values()
            for folders in labels.values()
            for folder in folders
        ]
        if not named or len(named) > len(set(named)):
            raise refuse(
                "folders", ", ".join(named) or "none", "folders, each under one split and label"
            )


def read(raw: Path, config: Config) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Every file of the folders, in the archive's order; UserError for a folder that it does not
    have."""
    places = {
        folder: (split, label)
        for split, labels in config.folders.items()
        for label, folders in labels.items()
        for folder in folders
    }
    seen: set[str] = set()
    path = corpus_file(raw, config.archive)
    for folder, texts in _batches(path, set(places)):
        split, label = places[folder]
        seen.add(folder)
        columns = [
            pa.array(texts, pa.string()),
            pa.repeat(label, len(texts)),
            pa.nulls(len(texts), pa.string()),
        ]
        yield split, pa.record_batch(columns, schema=tables.RAW_LABELLED)
    if missing := sorted(set(places) - seen):
        raise refuse(
            str(path),
            f"no file in {missing[0]}",
            "files in every folder of `read`",
            "Mend the folder's name.",
        )


def _batches(path: Path, folders: set[str]) -> Iterator[tuple[str, list[str]]]:
    """(folder, texts): neighbouring files of one folder, about a MiB at a time."""
    for folder, found in groupby(_texts(path, folders), key=lambda pair: pair[0]):
        texts, size = [], 0
        for _, text in found:
            texts.append(text)
            size += len(text)
            if size > _BATCH:
                yield folder, texts
                texts, size = [], 0
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
            "Mend `read.archive`, or run `dvc repro`.",
        ) from None
    except UserError:
        raise
    except tar_stream.READ_ERRORS as error:
        got = " ".join(str(error).split()) or type(error).__name__
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
    return data.decode("utf-8-sig")
