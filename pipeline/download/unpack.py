"""Files in a zip, tar or gzip by their names: of the user's own archive, and of an address that
serves an archive where a file without a hash is expected.

Names are checked, links and encrypted members are refused, and the work is bounded. (`archives.py`
finds pinned files by their hash alone.)"""

import gzip
import os
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, cast

from pipeline.core.errors import UserError, name_file_in_errors, refuse
from pipeline.download import archives, tar_stream

CHUNK = 1 << 20
_SUFFIXES = (".zip", ".gz", ".tgz", ".tar")
_WORDS = {"zip": "a zip archive", "gzip": "a gzip file", "tar": "a tar archive"}
_MOST_SHOWN = 10  # names in a message


def refuse_archive(path: Path, name: str, where: str) -> None:
    """UserError for a pinned file at `path` that is an archive, though its name is no archive's."""
    if is_disguised(path, name):
        raise refuse(
            f"{where}.sha256 ({name})",
            f"the hash of {_WORDS[archives.kind(path)]}",
            "that of the file in it, which is unpacked",
            "Set sha256 and bytes of the unpacked file, or a name that ends in .zip, .gz or .tar.",
        )


def is_disguised(path: Path, name: str) -> bool:
    """Whether the file at `path` is an archive, though its name, `name`, is no archive's."""
    return archives.kind(path) != "plain" and not name.lower().endswith(_SUFFIXES)


def is_packed(file: IO[bytes]) -> bool:
    """Whether the open file is a zip, or a gzip of a single file; its position becomes 0."""
    kind = _kind(file)
    return kind == "zip" or (kind == "gzip" and not _holds_tar(file))


def extract(path: Path, name: str, target: Path, where: str) -> None:
    """Write to `target` the file `name` of the archive at `path`: the member that is called so, in
    any folder, or its only one.

    UserError if it has several and none is called so, or if it cannot be unpacked."""
    label = f"{where} ({name})"
    with path.open("rb") as file, _refusing(label, name):
        names = [member for member, _ in members(file, name)]
        called = [member for member in names if PurePosixPath(member).name == name]
        candidates = called if len(called) == 1 else names
        if len(candidates) != 1:
            shown = ", ".join(names[:_MOST_SHOWN]) + (", ..." if len(names) > _MOST_SHOWN else "")
            raise refuse(
                label,
                f"{_WORDS[archives.kind(path)]} with {shown or 'no file'}",
                f"one file, or one called {name}",
                "Set `name` to the name of one of them.",
            )

        for member, stream in members(file, name):
            if member == candidates[0]:
                _write(stream, target)
                return


def contents(file: IO[bytes], name: str, where: str) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Name and chunks of each file in the archive called `name` that `file` reads; the chunks are
    read before the next name. UserError if it cannot be unpacked."""
    with _refusing(where, name):
        for member, stream in members(file, name):
            yield member, _refusing_chunks(stream, where, name)


def members(file: IO[bytes], name: str) -> Iterator[tuple[str, IO[bytes]]]:
    """Name and content of each file in the archive called `name`; a content is read before the next
    name. The name of a gzip's only file is that of the gzip without .gz.

    An error of `tar_stream.READ_ERRORS` if it cannot be unpacked."""
    kind = _kind(file)
    if kind == "zip":
        pairs = _zip_members(file)
    elif kind == "tar":
        pairs = _tar_members(file, _size(file))
    elif _holds_tar(file):
        pairs = _tar_members(_unzipped(file), _size(file))
    else:
        inner = name[: -len(".gz")] if name.lower().endswith(".gz") else name
        pairs = iter([(inner, _unzipped(file))])

    taken: set[str] = set()
    limit = tar_stream.most_expanded(_size(file))
    for member, stream in pairs:
        path = _checked(member)
        # A file at the place of another, or of another's folder.
        above = {folder.as_posix() for folder in path.parents}
        if path.as_posix() in taken or not taken.isdisjoint(above - {"."}):
            raise tar_stream.Unreadable(f"two members at {member[:200]}")
        taken.add(path.as_posix())
        bounded = _Bounded(stream, limit)
        yield path.as_posix(), cast(IO[bytes], bounded)
        limit = bounded.remaining


def chunks(stream: IO[bytes]) -> Iterator[bytes]:
    """Read the stream in chunks."""
    while chunk := stream.read(CHUNK):
        yield chunk


def _refusing_chunks(stream: IO[bytes], where: str, name: str) -> Iterator[bytes]:
    with _refusing(where, name):
        yield from chunks(stream)


class _Bounded:
    """A stream of which at most `remaining` bytes are read."""

    def __init__(self, stream: IO[bytes], remaining: int) -> None:
        self._stream = stream
        self.remaining = remaining

    def read(self, size: int) -> bytes:
        chunk = self._stream.read(size)
        self.remaining -= len(chunk)
        if self.remaining < 0:
            raise tar_stream.Unreadable("many times its size unpacked")
        return chunk


def _write(stream: IO[bytes], target: Path) -> None:
    with target.open("wb") as out:
        for chunk in chunks(stream):
            with name_file_in_errors(target):
                out.write(chunk)


def _zip_members(file: IO[bytes]) -> Iterator[tuple[str, IO[bytes]]]:
    with (
        archives.ZipReader(file.fileno(), closefd=False) as reader,
        zipfile.ZipFile(reader) as archive,
    ):
        for info in archive.infolist():
            if info.is_dir() or _is_junk(info.filename):
                continue
            shown = info.filename[:200]
            if stat.S_ISLNK(info.external_attr >> 16):
                raise tar_stream.Unreadable(f"the link {shown}")
            if info.flag_bits & 1:
                raise tar_stream.Unreadable(f"{shown}, which needs a password")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise tar_stream.Unreadable(f"{shown}, packed by another method than deflate")
            # zipfile would seek before the file's beginning.
            if info.header_offset < 0:
                raise tar_stream.Unreadable("a member that begins before the file")
            with archive.open(info) as stream:
                yield info.filename, stream


def _tar_members(stream: IO[bytes], size: int) -> Iterator[tuple[str, IO[bytes]]]:
    for info, content in tar_stream.members(stream, size):
        name = tar_stream.name_of(info)
        if not _is_junk(name):
            yield name, content


def _is_junk(name: str) -> bool:
    """Whether the member is one that macOS adds."""
    path = PurePosixPath(name)
    return "__MACOSX" in path.parts or path.name.startswith("._") or path.name == ".DS_Store"


def _checked(name: str) -> PurePosixPath:
    """The member's path; Unreadable for one that leads out of its folder or is no name."""
    path = PurePosixPath(name)
    if path.is_absolute() or not path.parts or ".." in path.parts or not name.isprintable():
        raise tar_stream.Unreadable(f"a member called {name[:200]}")
    return path


def _kind(file: IO[bytes]) -> archives.Kind:
    file.seek(0)
    kind = archives.kind_of(file.read(tar_stream.BLOCK))
    file.seek(0)
    return kind


def _holds_tar(file: IO[bytes]) -> bool:
    holds = archives.holds_tar(file)
    file.seek(0)
    return holds


def _unzipped(file: IO[bytes]) -> IO[bytes]:
    return cast(IO[bytes], gzip.GzipFile(fileobj=file))  # typeshed has it beside IO


def _size(file: IO[bytes]) -> int:
    return os.stat(file.fileno()).st_size


@contextmanager
def _refusing(where: str, name: str) -> Iterator[None]:
    """Raise UserError at `where` for an archive called `name` that cannot be unpacked."""
    try:
        yield
    except UserError:
        raise
    except tar_stream.READ_ERRORS as error:
        got = f"{name}, which cannot be unpacked ({tar_stream.describe(error)})"
        raise refuse(where, got, "an archive that can be unpacked", "Pack it again.") from None
