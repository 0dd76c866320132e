"""Extract files from zip, tar, tar.gz and gz containers, or a plain file, by size and sha256 alone.

Nothing in a container is trusted. The members' paths are not used; links and devices are skipped. A
member is opened only if its declared size is that of a requested file, and is read no further. The
work for one container is bounded: bytes read, bytes unpacked, and members listed."""

import errno
import gzip
import hashlib
import io
import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from pipeline.download import tar_stream
from pipeline.download.wanted import File, PinnedItem

Kind = Literal["zip", "gzip", "tar", "plain"]

_CHUNK = 1 << 20
# Limit of the bytes unpacked beyond the requested files: the container's size times the factor,
# plus the extra.
_MOST_FACTOR = 16
_MOST_EXTRA = 16 << 20
# Limit of a zip's central directory in bytes; each of its members takes half a kilobyte of memory.
_MOST_DIRECTORY = 16 << 20


@dataclass(frozen=True, slots=True)
class Extraction:
    """Files taken from a container, (bytes, sha256) of members of the right size but wrong hash,
    and the problem, if any."""

    extracted: frozenset[str]
    mismatches: tuple[tuple[int, str], ...]
    problem: str

    def explain(self, file: PinnedItem) -> str:
        """Explain why `file` was not extracted, for a message."""
        same_size = [digest for size, digest in self.mismatches if size == file.bytes]
        if same_size:
            return f"sha256 {same_size[0]}"
        return self.problem or f"nothing of {file.bytes} bytes in it"


def kind(path: Path) -> Kind:
    """Detect the kind of `path` by its first bytes; a gzip may hold a tar (see `holds_tar`)."""
    with path.open("rb") as file:
        return kind_of(file.read(tar_stream.BLOCK))


def kind_of(head: bytes) -> Kind:
    """Detect the kind of a file by its first `tar_stream.BLOCK` bytes."""
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    if head.startswith(b"\x1f\x8b\x08"):
        return "gzip"
    return "tar" if tar_stream.is_tar_header(head) else "plain"


def holds_tar(file: Path | IO[bytes]) -> bool:
    """Return whether a gzip, its path or the open file, holds a tar rather than a single file."""
    try:
        with gzip.open(file) as unpacked:
            return tar_stream.is_tar_header(unpacked.read(tar_stream.BLOCK))
    except (OSError, EOFError, zlib.error):
        return False


def extract(path: Path, files: Collection[File], into: Path) -> Extraction:
    """Copy each of the files that `path` contains, or is, to `into`/<its name>."""
    missing: list[File] = list(files)
    mismatches: list[tuple[int, str]] = []
    problem = ""
    sizes = {file.bytes for file in files}
    candidate = into / ".candidate"
    limit = 4 * sum(file.bytes for file in files) + _MOST_FACTOR * path.stat().st_size + _MOST_EXTRA
    unpacked = 0

    try:
        for stream in _candidates(path, sizes):
            size, digest = _copy(stream, candidate, max(sizes))
            unpacked += size
            if unpacked > limit:
                raise tar_stream.Unreadable(
                    f"over {limit} bytes unpacked of members that are not wanted"
                )

            # Two requested files may have the same content.
            matching = [file for file in missing if (file.bytes, file.sha256) == (size, digest)]
            for file in matching:
                shutil.copyfile(candidate, into / file.name)
                missing.remove(file)
            if not matching and size in sizes:
                mismatches.append((size, digest))
            if not missing:
                break
    except tar_stream.READ_ERRORS as error:
        problem = f"cannot be unpacked ({tar_stream.describe(error)})"
    finally:
        candidate.unlink(missing_ok=True)

    if kind(path) == "plain":
        problem = f"{path.stat().st_size} bytes"
    extracted = frozenset(file.name for file in files if file not in missing)
    return Extraction(extracted, tuple(mismatches), problem)


def zip_sizes(path: Path) -> set[int]:
    """Sizes that a zip declares for its members; empty if it cannot be read."""
    try:
        with ZipReader(path) as file, zipfile.ZipFile(file) as archive:
            return {info.file_size for info in archive.infolist()}
    except tar_stream.READ_ERRORS:
        return set()


def gzip_size(path: Path) -> int:
    """Read a gzip's unpacked size from its last four bytes (RFC 1952, ISIZE): correct for a single
    member of less than 4 GiB."""
    with path.open("rb") as file:
        file.seek(-min(4, path.stat().st_size), 2)
        return int.from_bytes(file.read(4), "little")


def _candidates(path: Path, sizes: set[int]) -> Iterator[IO[bytes]]:
    """Open each member of `path` that may have one of the sizes, `path` itself first."""
    if path.stat().st_size in sizes:
        with path.open("rb") as file:
            yield file

    container = kind(path)
    if container == "zip":
        yield from _zip_members(path, sizes)
    elif container == "tar":
        with path.open("rb") as file:
            yield from _tar_members(file, sizes, path.stat().st_size)
    elif container == "gzip":
        is_tar = holds_tar(path)
        with gzip.open(path) as file:
            if is_tar:
                yield from _tar_members(file, sizes, path.stat().st_size)
            else:
                yield file  # type: ignore[misc]  # GzipFile reads bytes; typeshed has it beside IO


def _zip_members(path: Path, sizes: set[int]) -> Iterator[IO[bytes]]:
    with ZipReader(path) as file, zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            link = stat.S_ISLNK(info.external_attr >> 16)
            encrypted = info.flag_bits & 1
            # zipfile would seek before the file's beginning.
            if info.header_offset < 0:
                raise tar_stream.Unreadable("a member that begins before the file")
            if info.is_dir() or link or encrypted or info.file_size not in sizes:
                continue
            if info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                # zipfile reads no further than file_size, whatever the data unpack to.
                with archive.open(info) as stream:
                    yield stream


class ZipReader(io.FileIO):
    """A zip file of which at most twice its size is read.

    Overlapping members, as in a zip bomb, and too long a central directory are refused."""

    def __init__(self, file: Path | int, closefd: bool = True) -> None:
        super().__init__(file, closefd=closefd)
        self._bytes = os.stat(self.fileno()).st_size
        self._remaining = 2 * self._bytes + _MOST_EXTRA

    def read(self, size: int | None = -1, /) -> bytes:
        rest = max(self._bytes - self.tell(), 0)
        size = rest if size is None or size < 0 else min(size, rest)
        if size > _MOST_DIRECTORY:
            raise tar_stream.Unreadable(f"a list of members of {size} bytes")

        self._remaining -= size
        if self._remaining < 0:
            raise tar_stream.Unreadable("members that overlap")
        return super().read(size) or b""

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        try:
            return super().seek(offset, whence)
        except OSError as error:
            if error.errno == errno.EINVAL and whence == os.SEEK_SET:
                raise tar_stream.Unreadable("an offset that is not in the file") from None
            raise


def _tar_members(file: Any, sizes: set[int], container: int) -> Iterator[IO[bytes]]:
    for info, stream in tar_stream.members(file, container):
        if info.size in sizes:
            yield stream


def _copy(stream: IO[bytes], target: Path, limit: int) -> tuple[int, str]:
    """Copy at most `limit` + 1 bytes; return their number and sha256."""
    digest = hashlib.sha256()
    size = 0
    with target.open("wb") as file:
        while size <= limit and (chunk := stream.read(min(_CHUNK, limit + 1 - size))):
            digest.update(chunk)
            file.write(chunk)
            size += len(chunk)
    return size, digest.hexdigest()
