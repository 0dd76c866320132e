"""`source: {bundle: ...}`: the many small files of a tar's folders, verified together and repacked
into one tar.gz.

Names and contents are trusted only after the hash of all of them is right. No member's name is ever
opened. The new archive is sorted and has no dates: it has the same bytes for every archive that
holds the files."""

import gzip
import hashlib
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.download import tar_stream
from pipeline.download.archives import Extraction, holds_tar, kind
from pipeline.download.wanted import Bundle

_CHUNK = 1 << 20
_MOST_NAMES = 64 << 20  # characters of all names, which are held in memory


@dataclass(frozen=True, slots=True)
class _Piece:
    """A member's position among the concatenated contents, its size and its hash."""

    start: int
    size: int
    sha256: str


def extract(path: Path, bundle: Bundle, into: Path) -> Extraction:
    """Repack the files in the bundle's folders of `path` as `into`/<its name>, if their hash is the
    bundle's."""
    contents = into / ".contents"
    try:
        with _opened(path) as tar:
            if tar is None:
                return _failed(f"{path.stat().st_size} bytes, and no tar")

            pieces = _collect(tar, bundle, contents, path.stat().st_size)
            size = sum(piece.size for piece in pieces.values())
            digest = listing_digest(pieces)
            if (size, digest) != (bundle.bytes, bundle.sha256):
                problem = f"{size} bytes in its folders {', '.join(bundle.folders)}"
                return Extraction(frozenset(), ((size, digest),), problem)

            _pack(pieces, contents, into / bundle.name)
            return Extraction(frozenset([bundle.name]), (), "")
    except tar_stream.READ_ERRORS as error:
        return _failed(f"cannot be unpacked ({tar_stream.describe(error)})")
    finally:
        contents.unlink(missing_ok=True)


def _failed(problem: str) -> Extraction:
    return Extraction(frozenset(), (), problem)


def listing_digest(pieces: dict[str, _Piece]) -> str:
    """sha256 of the output of `sha256sum` for the members in the order of their names."""
    total = hashlib.sha256()
    for name in _sorted_names(pieces):
        total.update(f"{pieces[name].sha256}  {name}\n".encode(errors="surrogateescape"))
    return total.hexdigest()


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open the tar at `path`, or in the gzip at `path`, as a stream; None for anything else."""
    container = kind(path)
    if container == "tar":
        with path.open("rb") as file:
            yield file
    elif container == "gzip" and holds_tar(path):
        with gzip.open(path) as unpacked:
            yield unpacked
    else:
        yield None


def _collect(tar: Any, bundle: Bundle, contents: Path, container: int) -> dict[str, _Piece]:
    """Concatenate the contents of the folders' files, up to the bundle's size; return the position
    of each by name."""
    pieces: dict[str, _Piece] = {}
    characters = 0
    with contents.open("wb") as out:
        for info, stream in tar_stream.members(tar, container):
            name = tar_stream.name_of(info)
            start = out.tell()
            if name.rpartition("/")[0] not in bundle.folders:
                continue

            if name in pieces:
                raise tar_stream.Unreadable(f"two members called {name[:200]}")
            characters += len(name)
            if characters > _MOST_NAMES:
                raise tar_stream.Unreadable(f"names of over {_MOST_NAMES} characters")
            if start + info.size > bundle.bytes:
                raise tar_stream.Unreadable(
                    f"more than {bundle.bytes} bytes in its folders {', '.join(bundle.folders)}"
                )

            digest = hashlib.sha256()
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
                out.write(chunk)
            pieces[name] = _Piece(start, out.tell() - start, digest.hexdigest())
    return pieces


def _pack(pieces: dict[str, _Piece], contents: Path, target: Path) -> None:
    # mtime=0 and no file name: the gzip header is the same for every run.
    with (
        contents.open("rb") as source,
        target.open("wb") as raw,
        gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name in _sorted_names(pieces):
            info = tarfile.TarInfo(name)
            info.size = pieces[name].size
            source.seek(pieces[name].start)
            archive.addfile(info, source)


def _sorted_names(pieces: dict[str, _Piece]) -> list[str]:
    return sorted(pieces, key=lambda name: name.encode(errors="surrogateescape"))
