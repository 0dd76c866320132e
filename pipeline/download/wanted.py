"""One file, or bundle of files, of a corpus: its name, its exact size and hash if pinned, and its
addresses."""

import re
import urllib.parse
from dataclasses import dataclass

from pipeline.core.errors import redact, refuse

MANIFEST = "manifest.json"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,199}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed:
    """One item under `source.files:`: a pinned `File` if `sha256` and `bytes` are set.

    Both are set, or neither. Without them the file is the current content of the first of `urls`
    that answers: it cannot be recognized in a container or a mirror. `seqline refresh` checks
    whether it has changed."""

    name: str
    sha256: str | None
    bytes: int | None
    urls: tuple[str, ...]

    def __post_init__(self) -> None:
        if (self.sha256 is None) != (self.bytes is None):
            missing, present = ("sha256", "bytes") if self.sha256 is None else ("bytes", "sha256")
            raise refuse(
                missing,
                None,
                f"a value, as {present} has one",
                "Set both, or both to null for a file that may change.",
            )
        if self.pinned() is None:
            _check_name_and_urls(self)

    def pinned(self) -> "File | None":
        """The file if it is pinned, else None."""
        if self.sha256 is None or self.bytes is None:
            return None
        return File(name=self.name, sha256=self.sha256, bytes=self.bytes, urls=self.urls)


@dataclass(frozen=True, kw_only=True, slots=True)
class File:
    """A pinned file.

    `sha256` and `bytes` are those of the file itself, not of a zip, tar or gz around it. The first
    of `urls` is the canonical one, which the manifest names."""

    name: str
    sha256: str
    bytes: int
    urls: tuple[str, ...]

    def __post_init__(self) -> None:
        _check_pinned(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class Bundle:
    """`source.bundle:`: the many files in some `folders` of a tar, packed as one tar.gz `name`.

    `bytes` is the sum of their sizes. `sha256` is that of their listing, which has a line
    `<sha256>  <name>` for each in the order of their names, as `sha256sum` prints it. So the order
    and the other members of an archive do not matter.
    """

    name: str
    folders: tuple[str, ...]
    sha256: str
    bytes: int
    urls: tuple[str, ...]

    def __post_init__(self) -> None:
        _check_pinned(self)
        if not self.folders:
            raise refuse("folders", "none", "at least one folder of the archive")


PinnedItem = File | Bundle


def _check_pinned(item: PinnedItem) -> None:
    if not _SHA256.fullmatch(item.sha256):
        raise refuse(
            "sha256",
            item.sha256,
            "64 digits 0-9 a-f in quotes",
            "Take them from `sha256sum FILE`.",
        )
    if item.bytes < 1:
        raise refuse("bytes", item.bytes, "the file's exact size, at least 1")
    _check_name_and_urls(item)


def _check_name_and_urls(item: PinnedItem | Listed) -> None:
    """Refuse a name that is not a plain file name, and addresses that cannot be fetched."""
    if not _NAME.fullmatch(item.name) or item.name == MANIFEST:
        raise refuse(
            "name",
            item.name,
            f"a plain file name of letters, digits and . _ + - other than {MANIFEST}",
        )
    if not item.urls:
        raise refuse("urls", "none", "at least one address", "Name where the file comes from.")
    for index, url in enumerate(item.urls):
        _check_address(url, f"urls[{index}]")


def _check_address(url: str, where: str) -> None:
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError as error:
        raise refuse(where, redact(url), "an address", f"{error}.") from None
    if not url.isprintable() or " " in url:
        raise refuse(where, repr(redact(url)), "an address without blanks")
    if parts.scheme not in ("http", "https", "file"):
        raise refuse(where, redact(url), "an address that begins with https://, http:// or file://")
    if "@" in parts.netloc:
        raise refuse(
            where, redact(url), "an address without a password", "Keep credentials in ~/.netrc."
        )
    if parts.scheme != "file" and not parts.hostname:
        raise refuse(where, redact(url), "an address with a host")
