"""SEQLINE_MIRROR: a folder or an http address that may hold a corpus's files, asked before the
network.

The folder may hold the original archives, repacked ones or the files themselves, anywhere in it and
under any names: sizes decide what is opened, and sha256 decides what is taken. An address must have
<corpus>/<name> or <name>, the name being the file's own or that of the original archive."""

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
    """Addresses at which a mirror `base` may have the file, the likeliest first."""
    names = [posixpath.basename(urllib.parse.urlsplit(url).path) for url in file.urls]
    names = list(dict.fromkeys(name for name in [*names, file.name] if name))
    root = base.rstrip("/")
    return [f"{root}/{corpus}/{name}" for name in names] + [f"{root}/{name}" for name in names]


def search(folder: Path, wanted: Sequence[PinnedItem], into: Path) -> Extraction:
    """Copy what `folder` holds of the wanted files to `into`: equal files first, then archives, the
    cheapest first."""
    left: list[PinnedItem] = list(wanted)
    others: list[tuple[int, str]] = []
    files, complete = _walk(folder)
    for candidate in _by_cost(files, left):
        if not left:
            break
        extraction = containers.extract(candidate, left, into)
        left = [file for file in left if file.name not in extraction.extracted]
        others += extraction.mismatches
    trouble = "" if complete else f"nothing among its first {_MOST_FILES} files"
    return Extraction(
        frozenset(file.name for file in wanted if file not in left), tuple(others), trouble
    )


def _by_cost(files: list[tuple[int, Path]], left: list[PinnedItem]) -> Iterator[Path]:
    """The files that could hold a wanted one: of equal size, zips and gzips that declare it, then
    tars by size."""
    sizes = {file.bytes for file in left}
    yield from (path for size, path in files if size in sizes)
    kinds = [(size, path, archives.kind(path)) for size, path in files if size not in sizes]
    yield from (
        path for _, path, kind in kinds if kind == "zip" and sizes & archives.zip_sizes(path)
    )
    yield from (
        path for _, path, kind in kinds if kind == "gzip" and archives.gzip_size(path) in sizes
    )
    for size, path, kind in kinds:
        large = (
            size if kind == "tar" else max(archives.gzip_size(path), size) if kind == "gzip" else 0
        )
        if large > min(sizes) and (kind == "tar" or archives.holds_tar(path)):
            yield path


def _walk(folder: Path) -> tuple[list[tuple[int, Path]], bool]:
    """(bytes, path) of the regular files under `folder`, smallest first, and whether these are
    all."""
    found: list[tuple[int, Path]] = []
    for here, folders, names in os.walk(folder):
        depth = len(Path(here).relative_to(folder).parts)
        folders[:] = sorted(folders) if depth < _DEEPEST else []
        for name in sorted(names):
            path = Path(here, name)
            if len(found) >= _MOST_FILES:
                return sorted(found), False
            if path.is_file() and os.access(path, os.R_OK):
                found.append((path.stat().st_size, path))
    return sorted(found), True
