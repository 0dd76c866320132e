"""`source: {files: [...]}` and `{bundle: ...}`: fetch each item from the mirror, or from the first
of its addresses that has the right bytes."""

import os
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.core.errors import UserError, redact, refuse
from pipeline.core.locks import file_lock
from pipeline.download import archives, containers, mirror
from pipeline.download.failures import DownloadError
from pipeline.download.fetch import Fetcher, Limits
from pipeline.download.wanted import Listed, PinnedItem

# A container may hold far more than the requested files.
_CONTAINER_FACTOR = 16
_CONTAINER_EXTRA = 256 << 20

_NEXT_STEP = "Put a right copy in a folder and set SEQLINE_MIRROR to it."


class Collector:
    """Collect the pinned files of one corpus in the folder `into`.

    Each address is visited once, for all missing files. `where` returns the dotted name of a file
    for messages.
    """

    def __init__(
        self,
        corpus: str,
        files: Sequence[PinnedItem],
        where: Callable[[PinnedItem], str],
        into: Path,
        fetcher: Fetcher,
    ) -> None:
        self._corpus = corpus
        self._files = files
        self._where = where
        self._into = into
        self._fetcher = fetcher
        self._missing = list(files)
        # By address: its extraction, or the reason why it failed.
        self._results: dict[str, archives.Extraction | str] = {}
        total = sum(file.bytes for file in files)
        self._limits = Limits(
            plain=max(file.bytes for file in files),
            container=_CONTAINER_FACTOR * total + _CONTAINER_EXTRA,
        )

    def collect(self, mirror_address: str) -> None:
        """Collect all files, from the mirror ("" for none) first; UserError for the first file that
        no address has."""
        online = mirror_address.startswith(("http://", "https://"))
        folder: list[str] = []
        if mirror_address and not online:
            if not Path(mirror_address).is_dir():
                raise refuse(
                    "SEQLINE_MIRROR",
                    redact(mirror_address),
                    "a folder, or an address that begins with https:// or http://",
                )
            folder = [f"SEQLINE_MIRROR {mirror_address}"]
            self._record(folder[0], mirror.search(Path(mirror_address), self._missing, self._into))

        for file in self._files:
            online_mirror = mirror.addresses(mirror_address, self._corpus, file) if online else []
            candidates = [*folder, *online_mirror, *file.urls]
            if not any(self._collect_from(file, address) for address in candidates):
                raise self._no_copy(file, candidates)

    def _collect_from(self, file: PinnedItem, address: str) -> bool:
        """Visit `address`, if needed, for all missing files; return whether `file` is collected."""
        if file in self._missing and address not in self._results:
            try:
                self._record(address, self._visit(file, address))
            except DownloadError as error:
                self._results[address] = str(error)
        return file not in self._missing

    def _record(self, address: str, extraction: archives.Extraction) -> None:
        self._results[address] = extraction
        self._missing = [file for file in self._missing if file.name not in extraction.extracted]

    def _visit(self, file: PinnedItem, address: str) -> archives.Extraction:
        if address.startswith("file:"):
            return containers.extract(local_path(address), self._missing, self._into)

        with file_lock(self._fetcher.stem(address).with_suffix(".lock")):
            path, fresh = self._fetcher.fetch(address, self._limits)
            extraction = containers.extract(path, self._missing, self._into)
            if file.name not in extraction.extracted:
                self._fetcher.discard(address)
                # Bytes of an earlier run may be of an older version, or of two: fetch once more.
                if not fresh:
                    path, _ = self._fetcher.fetch(address, self._limits)
                    extraction = containers.extract(path, self._missing, self._into)
            return extraction

    def _no_copy(self, file: PinnedItem, candidates: Sequence[str]) -> UserError:
        reasons = []
        for address in candidates:
            result = self._results[address]
            reason = result if isinstance(result, str) else result.explain(file)
            reasons.append(f"{redact(address)}: {reason}")

        key = f"{self._where(file)} ({file.name})"
        account = self._fetcher.account
        todo = account.advice() if account.spent else _NEXT_STEP
        return refuse(key, "; ".join(reasons), f"{file.bytes} bytes of sha256 {file.sha256}", todo)


def check_names(files: Sequence[Listed], where: str) -> None:
    """Refuse an empty list, and two files whose names are equal on a disk that ignores case."""
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


def local_path(address: str) -> Path:
    """Path of the file at a `file:` address; `DownloadError` if it cannot be read."""
    path = Path(urllib.request.url2pathname(urllib.parse.urlsplit(address).path))
    try:
        if not path.is_file():
            raise DownloadError("no such file")
    # A name that is too long, or a folder without permission.
    except OSError as error:
        raise DownloadError(f"no file that can be read ({error.strerror})") from None
    if not os.access(path, os.R_OK):
        raise DownloadError("no permission to read it")
    return path
