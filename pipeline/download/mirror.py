"""SEQLINE_MIRROR: a folder or an http address that may hold a corpus's files, tried before the
network.

The folder may hold the original archives, repacked ones or the files themselves, anywhere in it and
under any names: sizes decide which files are opened, and sha256 decides which are copied.

An address must have <corpus>/<name> or <name>, where the name is that of the file or of the
original archive."""

import os
import posixpath
import urllib.parse
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.download import archives, containers
from pipeline.download.archives import Extraction
from pipeline.download.wanted import PinnedItem

_MOST_FILES = 100_000
_DEEPEST = 12


def addresses(base: str, corpus: str, file: PinnedItem) -> list[str]:
    """Addresses at which the mirror `base` may have the file, the likeliest first."""
    names = [posixpath.basename(urllib.parse.urlsplit(url).path) for url in file.urls]
    names = list(dict.fromkeys(name for name in [*names, file.name] if name))
    root = base.rstrip("/")
    return [f"{root}/{corpus}/{name}" for name in names] + [f"{root}/{name}" for name in names]


def search(folder: Path, items: Sequence[PinnedItem], into: Path) -> Extraction:
    """Copy the items that `folder` contains to `into`: from plain files first, then from archives,
    the cheapest first."""
    missing: list[PinnedItem] = list(items)
    mismatches: list[tuple[int, str]] = []
    files, complete = _walk(folder)

    for candidate in _by_cost(files, missing):
        if not missing:
            break
        extraction = containers.extract(candidate, missing, into)
        missing = [item for item in missing if item.name not in extraction.extracted]
        mismatches += extraction.mismatches

    problem = "" if complete else f"nothing among its first {_MOST_FILES} files"
    extracted = frozenset(item.name for item in items if item not in missing)
    return Extraction(extracted, tuple(mismatches), problem)


def _by_cost(files: list[tuple[int, Path]], items: list[PinnedItem]) -> Iterator[Path]:
    """Files that could contain an item, the cheapest to check first: files of equal size, zips and
    gzips that declare the size, then tars from the smallest on."""
    sizes = {item.bytes for item in items}
    yield from (path for size, path in files if size in sizes)
    kinds = [(size, path, archives.kind(path)) for size, path in files if size not in sizes]
    yield from (
        path for _, path, kind in kinds if kind == "zip" and sizes & archives.zip_sizes(path)
    )
    yield from (
        path for _, path, kind in kinds if kind == "gzip" and archives.gzip_size(path) in sizes
    )

    # A tar has no list of its members: the only clue is that it is larger than the smallest item.
    for size, path, kind in kinds:
        if kind == "tar" and size > min(sizes):
            yield path
        elif kind == "gzip":
            unpacked = max(archives.gzip_size(path), size)
            if unpacked > min(sizes) and archives.holds_tar(path):
                yield path


def _walk(folder: Path) -> tuple[list[tuple[int, Path]], bool]:
    """(bytes, path) of the readable files under `folder`, smallest first, and whether these are
    all."""
    files: list[tuple[int, Path]] = []
    for parent, folders, names in os.walk(folder):
        depth = len(Path(parent).relative_to(folder).parts)
        # os.walk enters the folders that are in this list, in its order.
        folders[:] = sorted(folders) if depth < _DEEPEST else []
        for name in sorted(names):
            path = Path(parent, name)
            if len(files) >= _MOST_FILES:
                return sorted(files), False
            if path.is_file() and os.access(path, os.R_OK):
                files.append((path.stat().st_size, path))
    return sorted(files), True
