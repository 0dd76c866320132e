"""Read an untrusted tar as a stream: links and devices are skipped, and the work is bounded."""

import gzip
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, Any, cast

BLOCK = 512  # bytes of a tar's header
_CHUNK = 1 << 16
_MOST_EXPANDED = 8 << 30  # bytes unpacked from one gzip
# The same as a multiple of the container's bytes; a gzip bomb has a factor of a thousand.
_MOST_FACTOR = 64
_MOST_EXTRA = 256 << 20
_MOST_MEMBERS = 1_000_000
_MOST_HEADER = 1 << 18  # bytes of one extended tar header, which tarfile holds in memory
_MOST_HEADERS = 1 << 20  # bytes of all headers of one member, maps of sparse files included
_MOST_NAME = 4096  # bytes of a member's name: more than a path may have
_MOST_GLOBAL = 1000  # settings for all members that follow, which tarfile copies for each
# tarfile's search for a character set takes quadratic time on these.
_ENDLESS_DIGITS = re.compile(rb"[0-9]{100}")
_PAX = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
_EXTENDED = (*_PAX, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)


class Unreadable(Exception):
    """A container that is broken, or that needs more work than is allowed."""


# Exceptions of reading a container that is damaged, or made to do harm.
READ_ERRORS = (
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
)


def describe(error: BaseException) -> str:
    """One line about an error of `READ_ERRORS`, for a message."""
    return " ".join(str(error).split()) or type(error).__name__


def members(file: Any, container: int | None = None) -> Iterator[tuple[tarfile.TarInfo, IO[bytes]]]:
    """Iterate over the regular files of the tar in the stream `file`; each is open until the next.

    `container` is the size in bytes of the file that the stream is unpacked from, if it is known.
    """
    limit = _MOST_EXPANDED if container is None else most_expanded(container)
    stream = _Forward(file, limit)
    stream.begin_header()
    with tarfile.TarFile(fileobj=cast(IO[bytes], stream), tarinfo=_BoundedHeader) as archive:
        for _ in range(_MOST_MEMBERS):
            info = _next(archive, stream)
            if info is None:
                return
            # Regular files only: no links, devices or sparse files.
            if info.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and info.sparse is None:
                content = archive.extractfile(info)
                assert content is not None
                yield info, content
        raise Unreadable(f"over {_MOST_MEMBERS} members")


def most_expanded(container: int) -> int:
    """Limit of the bytes unpacked from an archive of `container` bytes."""
    return min(_MOST_EXPANDED, _MOST_FACTOR * container + _MOST_EXTRA)


def name_of(info: tarfile.TarInfo) -> str:
    """A member's name without a leading `./`, to compare or show; never to be opened."""
    return info.name.removeprefix("./")


def is_tar_header(block: bytes) -> bool:
    """Return whether a file's first bytes are the header of a tar."""
    try:
        tarfile.TarInfo.frombuf(block, tarfile.ENCODING, "surrogateescape")
    except tarfile.TarError:
        return False
    return True


def _next(archive: tarfile.TarFile, stream: "_Forward") -> tarfile.TarInfo | None:
    """The next member, None at the end; Unreadable for a header that is over a limit."""
    if archive.firstmember is None:  # type: ignore[attr-defined]  # it read one when it opened
        # Skip the rest of the last member here: it must not count among this header's bytes.
        stream.seek(max(stream.tell(), archive.offset - 1))
        stream.begin_header()
    info = archive.next()
    stream.end_header()
    archive.members.clear()  # type: ignore[attr-defined]  # tarfile would keep every header

    if info is None:
        return None
    if info.size < 0:
        raise Unreadable(f"a member of {info.size} bytes")
    if info.size > stream.remaining:
        raise Unreadable(
            f"over {stream.limit} bytes unpacked, with a member that claims {info.size}"
        )
    if len(info.name) > _MOST_NAME:
        raise Unreadable(f"a member with a name of {len(info.name)} characters")
    if len(archive.pax_headers) > _MOST_GLOBAL:
        raise Unreadable(f"over {_MOST_GLOBAL} settings for all members")
    return info


class _Forward:
    """A stream that is read or skipped forward, up to a limit.

    `limit`: bytes that may be read in all; `remaining`: bytes that may still be read.
    """

    def __init__(self, file: IO[bytes], limit: int) -> None:
        self._file = file
        self.limit = limit
        self.remaining = limit
        # While a header is read: bytes that it may still have.
        self._header_remaining: int | None = None
        self._ahead = b""  # read from the file, not yet returned
        self._position = 0

    def begin_header(self) -> None:
        self._header_remaining = _MOST_HEADERS

    def end_header(self) -> None:
        self._header_remaining = None

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> int:
        if position < self._position:
            raise Unreadable("a member that begins before the last one ends")
        while position > self._position:
            if not self.read(min(_CHUNK, position - self._position)):
                raise Unreadable("it ends within a member")
        return self._position

    def read(self, size: int) -> bytes:
        chunk, self._ahead = self._ahead[:size], self._ahead[size:]
        if len(chunk) < size:
            chunk += self._take(size - len(chunk))
        self._position += len(chunk)
        return chunk

    def look_ahead(self, size: int) -> bytes:
        """Peek at the next bytes; `read` returns them again."""
        self._ahead += self._take(size - len(self._ahead))
        return self._ahead[:size]

    def _take(self, size: int) -> bytes:
        chunk = self._file.read(size)
        self.remaining -= len(chunk)
        if self.remaining < 0:
            raise Unreadable(f"over {self.limit} bytes unpacked")
        if self._header_remaining is not None:
            self._header_remaining -= len(chunk)
            if self._header_remaining < 0:
                raise Unreadable(f"a member's headers of over {_MOST_HEADERS} bytes")
        return chunk


class _BoundedHeader(tarfile.TarInfo):
    """A header that refuses long names and extended headers which would fill the memory or take
    hours to parse."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_BoundedHeader":
        header = super().frombuf(buf, encoding, errors)
        if header.type in _EXTENDED and not 0 <= header.size <= _MOST_HEADER:
            raise Unreadable(f"a header of {header.size} bytes")
        return header

    def _proc_member(self, archive: Any) -> Any:
        if self.type in _PAX and _ENDLESS_DIGITS.search(archive.fileobj.look_ahead(self.size)):
            raise Unreadable("a header with a number of over 100 digits")
        return super()._proc_member(archive)  # type: ignore[misc]
