"""One flow at a time in a project, and an orderly start: leftovers of a killed one are ended and
repaired first."""

import fcntl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.core import process_identity
from pipeline.core.atomic import try_lock
from pipeline.core.errors import refuse
from pipeline.dag import lock_repair, process_groups, repair


@contextmanager
def alone(root: Path, wait: bool) -> Iterator[None]:
    """Hold the project's flow lock, which the system frees when the process dies, however it dies.

    While another flow holds it: wait, or UserError naming its process. Process groups that a killed
    flow left over are ended before anything else, and files that a kill or a power cut damaged are
    repaired, with a line on stderr for each."""
    path = root / ".seqline" / "flow" / "lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as handle:
        if wait:
            fcntl.flock(handle, fcntl.LOCK_EX)
        elif not try_lock(handle):
            handle.seek(0)
            holder = process_identity.parse(handle.read())
            problem = f"another flow at work (process {holder.pid if holder else 'unknown'})"
            raise refuse(
                str(root), problem, "none beside this one", "Wait for it, or end it with Ctrl-C."
            )
        process_identity.sign(handle)
        process_groups.folder(root).mkdir(parents=True, exist_ok=True)
        process_groups.end_leftovers(root)
        for line in repair.repair(root):
            print(f"seqline: {line}", file=sys.stderr, flush=True)
        try:
            yield
        finally:
            lock_repair.save_copy(root)
