"""`source: {files: [...]}` and `{bundle: ...}`: each from the mirror or the first of its addresses
with the right bytes."""

import os
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.core.atomic import exclusive
from pipeline.core.errors import UserError, refuse, shown
from pipeline.download import archives, containers, mirror
from pipeline.download.failures import DownloadError
from pipeline.download.fetch import Fetcher, Limits
from pipeline.download.wanted import Listed, PinnedItem

# A container may hold far more than the files asked for.
_CONTAINER_FACTOR = 16
_CONTAINER_EXTRA = 256 << 20

_NEXT_STEP = "Put a right copy in a folder and set SEQLINE_MIRROR to it."


class Collector:
    """The files of one corpus on their way into the folder `into`; an address serves all that it
    has at its first visit.

    `where` gives the dotted name of a file for messages.
    """

    def __init__(
        self,
        corpus: str,
        files: Sequence[PinnedItem],
        where: Callable[[PinnedItem], str],
        into: Path,
        fetcher: Fetcher,
    ) -> None:
        self._corpus, self._files, self._where, self._into, self._fetcher = (
            corpus,
            files,
            where,
            into,
            fetcher,
        )
        self._left = list(files)
        self._results: dict[str, archives.Extraction | str] = {}
        self._limits = Limits(
            plain=max(file.bytes for file in files),
            container=_CONTAINER_FACTOR * sum(file.bytes for file in files) + _CONTAINER_EXTRA,
        )

    def collect(self, mirrored: str) -> None:
        """Bring all files in, from the mirror `mirrored` ("" for none) if it can; UserError for the
        first that fails."""
        _check_mirror(mirrored)
        online = mirrored.startswith(("http://", "https://"))
        if mirrored and not online:
            self._kept(
                f"SEQLINE_MIRROR {mirrored}", mirror.search(Path(mirrored), self._left, self._into)
            )
        for file in self._files:
            tried = [f"SEQLINE_MIRROR {mirrored}"] if mirrored and not online else []
            tried += mirror.addresses(mirrored, self._corpus, file) if online else []
            tried += file.urls
            if not any(self._has(file, address) for address in tried):
                raise self._no_copy(file, tried)

    def _has(self, file: PinnedItem, address: str) -> bool:
        """Return whether the file is here, once `address` has been visited for everything that is
        still missing."""
        if file in self._left and address not in self._results:
            try:
                self._kept(address, self._visit(file, address))
            except DownloadError as error:
                self._results[address] = str(error)
        return file not in self._left

    def _kept(self, address: str, extraction: archives.Extraction) -> None:
        self._results[address] = extraction
        self._left = [file for file in self._left if file.name not in extraction.extracted]

    def _visit(self, file: PinnedItem, address: str) -> archives.Extraction:
        if address.startswith("file:"):
            return containers.extract(local_path(address), self._left, self._into)
        with exclusive(self._fetcher.stem(address).with_suffix(".lock")):
            path, fresh = self._fetcher.fetch(address, self._limits)
            extraction = containers.extract(path, self._left, self._into)
            if file.name not in extraction.extracted:
                self._fetcher.discard(address)
                if not fresh:  # bytes of an earlier run: they may be of an older version, or of two
                    path, _ = self._fetcher.fetch(address, self._limits)
                    extraction = containers.extract(path, self._left, self._into)
            return extraction

    def _no_copy(self, file: PinnedItem, tried: Sequence[str]) -> UserError:
        reasons = []
        for address in tried:
            result = self._results[address]
            reason = result if isinstance(result, str) else result.explain(file)
            reasons.append(f"{shown(address)}: {reason}")
        key = f"{self._where(file)} ({file.name})"
        account = self._fetcher.account
        todo = account.advice() if account.spent else _NEXT_STEP
        return refuse(key, "; ".join(reasons), f"{file.bytes} bytes of sha256 {file.sha256}", todo)


def check_names(files: Sequence[Listed], where: str) -> None:
    """Refuse an empty list, and two files that would land on the same name (on disks that ignore
    case, too)."""
    if not files:
        raise refuse(where, "none", "at least one file")
    names = [file.name.lower() for file in files]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise refuse(
                f"{where}[{index}].name",
                files[index].name,
                "a name that no other file of this corpus has",
            )


def _check_mirror(mirrored: str) -> None:
    if not mirrored or mirrored.startswith(("http://", "https://")):
        return
    if not Path(mirrored).is_dir():
        raise refuse(
            "SEQLINE_MIRROR",
            shown(mirrored),
            "a folder, or an address that begins with https:// or http://",
        )


def local_path(address: str) -> Path:
    """The file that a `file:` address names; `DownloadError` if there is none."""
    path = Path(urllib.request.url2pathname(urllib.parse.urlsplit(address).path))
    try:
        if not path.is_file():
            raise DownloadError("no such file")
    except OSError as error:  # a name that is too long, or a folder that may not be entered
        raise DownloadError(f"no file that can be read ({error.strerror})") from None
    if not os.access(path, os.R_OK):
        raise DownloadError("no permission to read it")
    return path
