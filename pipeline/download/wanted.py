"""One file, or bundle of files, that a corpus needs: its name here, its exact size and hash if
pinned, and its addresses."""

import re
import urllib.parse
from dataclasses import dataclass

from pipeline.core.errors import refuse, shown

MANIFEST = "manifest.json"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,199}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed:
    """One item under `source.files:`: a `File` where `sha256` and `bytes` are given, both or
    neither.

    Without them the file is whatever the first of `urls` that answers serves at the time, as it is:
    there is nothing by which to know it in a container or a mirror. `seqline refresh` asks whether
    it has changed."""

    name: str
    sha256: str | None
    bytes: int | None
    urls: tuple[str, ...]

    def __post_init__(self) -> None:
        if (self.sha256 is None) != (self.bytes is None):
            key, other = ("sha256", "bytes") if self.sha256 is None else ("bytes", "sha256")
            raise refuse(
                key,
                None,
                f"a value, as {other} has one",
                "Set both, or both to null for a file that may change.",
            )
        if self.pinned() is None:
            _check_place(self)

    def pinned(self) -> "File | None":
        """The file that is known by its hash; None for one that is not."""
        if self.sha256 is None or self.bytes is None:
            return None
        return File(name=self.name, sha256=self.sha256, bytes=self.bytes, urls=self.urls)


@dataclass(frozen=True, kw_only=True, slots=True)
class File:
    """A file that is known by its hash.

    `sha256` and `bytes` are those of the file itself, whatever zip, tar or gz the addresses wrap it
    in. The first of `urls` is the canonical one, which the manifest names."""

    name: str
    sha256: str
    bytes: int
    urls: tuple[str, ...]

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class Bundle:
    """`source.bundle:`: the files that lie in some `folders` of a tar, too many to be each a file
    here. They land as one tar.gz called `name`.

    `bytes` is the sum of their sizes. `sha256` is that of their listing, which has a line
    `<sha256>  <name>` for each in the order of their names, as `sha256sum` prints it. It does not
    matter how, with what else or in which order an archive packs them.
    """

    name: str
    folders: tuple[str, ...]
    sha256: str
    bytes: int
    urls: tuple[str, ...]

    def __post_init__(self) -> None:
        _check(self)
        if not self.folders:
            raise refuse("folders", "none", "at least one folder of the archive")


PinnedItem = File | Bundle


def _check(wanted: PinnedItem) -> None:
    if not _SHA256.fullmatch(wanted.sha256):
        raise refuse(
            "sha256",
            wanted.sha256,
            "64 digits 0-9 a-f in quotes",
            "Take them from `sha256sum FILE`.",
        )
    if wanted.bytes < 1:
        raise refuse("bytes", wanted.bytes, "the file's exact size, at least 1")
    _check_place(wanted)


def _check_place(wanted: PinnedItem | Listed) -> None:
    """Refuse a name that is more than one, and addresses that cannot be fetched."""
    if not _NAME.fullmatch(wanted.name) or wanted.name == MANIFEST:
        raise refuse(
            "name",
            wanted.name,
            f"a plain file name of letters, digits and . _ + - other than {MANIFEST}",
        )
    if not wanted.urls:
        raise refuse("urls", "none", "at least one address", "Name where the file comes from.")
    for index, url in enumerate(wanted.urls):
        _check_address(url, f"urls[{index}]")


def _check_address(url: str, where: str) -> None:
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError as error:
        raise refuse(where, shown(url), "an address", f"{error}.") from None
    if not url.isprintable() or " " in url:
        raise refuse(where, repr(shown(url)), "an address without blanks")
    if parts.scheme not in ("http", "https", "file"):
        raise refuse(where, shown(url), "an address that begins with https://, http:// or file://")
    if "@" in parts.netloc:
        raise refuse(
            where, shown(url), "an address without a password", "Keep credentials in ~/.netrc."
        )
    if parts.scheme != "file" and not parts.hostname:
        raise refuse(where, shown(url), "an address with a host")
