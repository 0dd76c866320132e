"""Files of `source.files` that are not pinned: whatever their address serves at the time, as it is.

The last copy stays in the work folder with what the server called it, so that asking again costs
one short exchange, and a server that is gone costs nothing but news."""

import shutil
import sys
from pathlib import Path

from pipeline.core.atomic import exclusive
from pipeline.core.errors import printable, refuse, shown
from pipeline.download.addresses import local_path
from pipeline.download.failures import DownloadError
from pipeline.download.fetch import Fetcher, Limits
from pipeline.download.wanted import Listed

_MOST = 64 << 30  # bytes: nothing is known of its size, but it should not fill any disk


def copy_latest(file: Listed, where: str, into: Path, fetcher: Fetcher) -> None:
    """Copy the newest copy that can be had to `into`/<its name>, and say on stderr if it may not be
    the newest there is."""
    path, trouble = latest(file, where, fetcher)
    if trouble:
        print(f"seqline: {trouble}", file=sys.stderr)
    shutil.copyfile(path, into / file.name)


def latest(file: Listed, where: str, fetcher: Fetcher) -> tuple[Path, str]:
    """The newest copy that can be had, and why it may not be the newest there is ("" if it is).

    UserError if no address answers and none ever did.
    """
    reasons = []
    for url in file.urls:
        try:
            return _now(url, fetcher), ""
        except DownloadError as error:
            reasons.append(f"{shown(url)}: {error}")
    problem = printable("; ".join(reasons))
    advice = fetcher.account.advice() if fetcher.account.spent else ""
    for url in file.urls:
        if not url.startswith("file:") and fetcher.stem(url).exists():
            fetcher.outdated = True
            stays = f"{where} ({file.name}): got {problem}; the copy at hand stays"
            return fetcher.stem(url), f"{stays}. {advice}" if advice else stays
    todo = advice or "Mend the address, or try again later."
    raise refuse(f"{where} ({file.name})", problem, "an address that answers", todo)


def _now(url: str, fetcher: Fetcher) -> Path:
    if url.startswith("file:"):
        return local_path(url)
    with exclusive(fetcher.stem(url).with_suffix(".lock")):
        return fetcher.renew(url, Limits(plain=_MOST, container=_MOST))
