"""`source: {bundle: ...}`: the many small files of a tar's folders, verified together and packed
anew into one tar.gz.

Names and contents are trusted only after the hash of them all is right; no member's name is ever
opened. The new archive is sorted and carries no dates, so that it is the same whichever archive its
files came from."""

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
    """A member's place among all contents, written end to end."""

    start: int
    size: int
    sha256: str


def extract(path: Path, wanted: Bundle, into: Path) -> Extraction:
    """Pack what `path` has in the bundle's folders to `into`/<its name>, if all of it is what is
    wanted."""
    contents, looked = (
        into / ".contents",
        Extraction(frozenset(), (), f"{path.stat().st_size} bytes, and no tar"),
    )
    try:
        with _opened(path) as tar:
            if tar is not None:
                pieces = _collect(tar, wanted, contents, path.stat().st_size)
                size, digest = sum(piece.size for piece in pieces.values()), listing_digest(pieces)
                looked = Extraction(
                    frozenset(),
                    ((size, digest),),
                    f"{size} bytes in its folders {', '.join(wanted.folders)}",
                )
                if (size, digest) == (wanted.bytes, wanted.sha256):
                    _pack(pieces, contents, into / wanted.name)
                    looked = Extraction(frozenset([wanted.name]), (), "")
    except tar_stream.READ_ERRORS as error:
        looked = Extraction(
            frozenset(),
            (),
            f"cannot be unpacked ({' '.join(str(error).split()) or type(error).__name__})",
        )
    finally:
        contents.unlink(missing_ok=True)
    return looked


def listing_digest(pieces: dict[str, _Piece]) -> str:
    """The sha256 of what `sha256sum` would print of the members in the order of their names."""
    total = hashlib.sha256()
    for name in _ordered(pieces):
        total.update(f"{pieces[name].sha256}  {name}\n".encode(errors="surrogateescape"))
    return total.hexdigest()


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The tar at `path`, or in the gzip at `path`, as a stream; None for anything else."""
    what = kind(path)
    if what == "tar":
        with path.open("rb") as file:
            yield file
    elif what == "gzip" and holds_tar(path):
        with gzip.open(path) as unpacked:
            yield unpacked
    else:
        yield None


def _collect(tar: Any, bundle: Bundle, contents: Path, container: int) -> dict[str, _Piece]:
    """Write the contents of the folders' files end to end, up to the bundle's size; return the
    place of each by name."""
    pieces: dict[str, _Piece] = {}
    characters = 0
    with contents.open("wb") as out:
        for info, stream in tar_stream.members(tar, container):
            name, start = tar_stream.name_of(info), out.tell()
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


def _pack(pieces: dict[str, _Piece], contents: Path, to: Path) -> None:
    with (
        contents.open("rb") as source,
        to.open("wb") as raw,
        gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name in _ordered(pieces):
            info = tarfile.TarInfo(name)
            info.size = pieces[name].size
            source.seek(pieces[name].start)
            archive.addfile(info, source)


def _ordered(pieces: dict[str, _Piece]) -> list[str]:
    return sorted(pieces, key=lambda name: name.encode(errors="surrogateescape"))
