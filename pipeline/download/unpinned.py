"""Files of `source.files` that are not pinned: their address's current content.

The last copy stays in the work folder with the server's description of it. So a later request costs
one short exchange, and if the server does not answer, the last copy is used."""

import shutil
import sys
from pathlib import Path

from pipeline.core.atomic import atomic_file
from pipeline.core.errors import printable, redact, refuse
from pipeline.core.locks import file_lock
from pipeline.download import unpack
from pipeline.download.addresses import local_path
from pipeline.download.failures import DownloadError
from pipeline.download.fetch import Fetcher, Limits
from pipeline.download.wanted import Listed

_MOST = 64 << 30  # bytes: the file's size is unknown, but it should not fill any disk


def copy_latest(file: Listed, where: str, into: Path, fetcher: Fetcher) -> None:
    """Copy the latest available version to `into`/<its name>; print to stderr if it may be
    outdated."""
    path, problem = latest(file, where, fetcher)
    if problem:
        print(f"seqline: {problem}", file=sys.stderr)
    shutil.copyfile(path, into / file.name)


def latest(file: Listed, where: str, fetcher: Fetcher) -> tuple[Path, str]:
    """Fetch the latest available version; return it, and why it may be outdated ("" if it is not).

    If an address serves an archive, it is the file in it. UserError if no address answers and there
    is no earlier copy, and for an archive in which the file is not found.
    """
    reasons = []
    for url in file.urls:
        try:
            return _unpacked(url, _current(url, fetcher), file, where, fetcher), ""
        except DownloadError as error:
            reasons.append(f"{redact(url)}: {error}")

    # Fall back to the copy of an earlier run.
    problem = printable("; ".join(reasons))
    advice = fetcher.account.advice() if fetcher.account.spent else ""
    for url in file.urls:
        if not url.startswith("file:") and fetcher.stem(url).exists():
            fetcher.outdated = True
            message = f"{where} ({file.name}): got {problem}; the existing copy is kept"
            copy = _unpacked(url, fetcher.stem(url), file, where, fetcher)
            return copy, f"{message}. {advice}" if advice else message

    todo = advice or "Correct the address, or try again later."
    raise refuse(f"{where} ({file.name})", problem, "an address that answers", todo)


def _current(url: str, fetcher: Fetcher) -> Path:
    if url.startswith("file:"):
        return local_path(url)
    with file_lock(fetcher.stem(url).with_suffix(".lock")):
        return fetcher.renew(url, Limits(plain=_MOST, container=_MOST))


def _unpacked(url: str, path: Path, file: Listed, where: str, fetcher: Fetcher) -> Path:
    """The file at `path` that the address serves, or the one in it if it is an archive."""
    if not unpack.is_disguised(path, file.name):
        return path
    target = fetcher.stem(url).with_suffix(".unpacked")
    with atomic_file(target) as partial:
        unpack.extract(path, file.name, partial, where)
    return target
