"""Reading a tar as a stream without trusting it: links and devices are skipped, and the work spent on it is bounded."""

import gzip
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, Any, cast

BLOCK = 512  # bytes of a tar's header
_MOST_EXPANDED = 8 << 30  # bytes that are unpacked of one gzip at most
_MOST_MEMBERS = 1_000_000
_MOST_HEADER = 1 << 20  # bytes of one extended tar header, which tarfile holds in memory
_EXTENDED = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


class Unreadable(Exception):
    """A container that is broken, or that asks for more work than is allowed."""


BROKEN = (
    Unreadable,
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    ValueError,
)  # what reading a container that is damaged, or made to do harm, can raise


def members(file: Any) -> Iterator[tuple[tarfile.TarInfo, IO[bytes]]]:
    """The regular files of the tar that the stream `file` is, each open until the next one is asked for."""
    metered = cast(IO[bytes], _Metered(file))  # tarfile only reads in this mode
    with tarfile.open(fileobj=metered, mode="r|", tarinfo=_BoundedHeader) as archive:
        for _ in range(_MOST_MEMBERS):
            info = archive.next()
            if info is None:
                return
            archive.members.clear()  # type: ignore[attr-defined]  # tarfile would keep every header
            if info.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and info.sparse is None:
                stream = archive.extractfile(info)
                assert stream is not None
                yield info, stream
        raise Unreadable(f"over {_MOST_MEMBERS} members")


def name_of(info: tarfile.TarInfo) -> str:
    """A member's name without `./` before it: to be compared or shown, and never to be opened."""
    return info.name.removeprefix("./")


def begins_tar(block: bytes) -> bool:
    """Whether these first bytes of a file are a tar's."""
    try:
        tarfile.TarInfo.frombuf(block, tarfile.ENCODING, "surrogateescape")
    except tarfile.TarError:
        return False
    return True


class _Metered:
    """A stream that refuses to go on for ever."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._left = _MOST_EXPANDED

    def read(self, size: int) -> bytes:
        chunk = self._file.read(size)
        self._left -= len(chunk)
        if self._left < 0:
            raise Unreadable(f"over {_MOST_EXPANDED} bytes unpacked")
        return chunk


class _BoundedHeader(tarfile.TarInfo):
    """A header that refuses to announce a long name or extended header that would fill the memory."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_BoundedHeader":
        made = super().frombuf(buf, encoding, errors)
        if made.type in _EXTENDED and made.size > _MOST_HEADER:
            raise Unreadable(f"a header of {made.size} bytes")
        return made
