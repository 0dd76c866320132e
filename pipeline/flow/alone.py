"""One flow at a time in a project, and an orderly start: what a killed one left over is ended and mended first."""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.errors import refuse
from pipeline.flow import groups

_WRITING_SECONDS = 1.0


@contextmanager
def alone(root: Path, wait: bool) -> Iterator[None]:
    """Hold the project's flow lock, which the system frees when the process dies, however it dies.

    While another flow holds it: wait, or UserError naming its process. Process groups that a killed flow left over are
    ended before anything else.
    """
    path = root / ".seqline" / "flow" / "lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            handle.seek(0)
            got = f"another flow at work (process {handle.read().strip() or 'unknown'})"
            raise refuse(str(root), got, "none beside this one", "Wait for it, or end it with Ctrl-C.") from None
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        groups.folder(root).mkdir(parents=True, exist_ok=True)
        groups.end_leftovers(root)
        _mend(root / ".dvc" / "tmp" / "rwlock")
        yield


def _mend(rwlock: Path) -> None:
    """Remove DVC's list of files in use if a kill left it half written: no dvc would start any more."""
    written = _broken(rwlock)
    if written is not None:
        time.sleep(_WRITING_SECONDS)  # a dvc that lives writes it in place, and has done so in a moment
        if _broken(rwlock) == written:
            rwlock.unlink(missing_ok=True)


def _broken(rwlock: Path) -> int | None:
    """When the file was last written to, if it is not whole."""
    with suppress(FileNotFoundError):
        written = rwlock.stat().st_mtime_ns
        try:
            json.loads(rwlock.read_text(encoding="utf-8"))
        except ValueError:
            return written
    return None
