"""The lock of a project's flows, which also ends and repairs what a killed flow left."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pipeline.core import state_dir
from pipeline.core.errors import refuse
from pipeline.core.locks import LockedElsewhere, owned_lock
from pipeline.dag import lock_repair, process_groups, repair


@contextmanager
def flow_lock(root: Path, wait: bool) -> Iterator[None]:
    """Hold the project's flow lock, which the system frees when the process dies, however it dies.

    While another flow holds it: wait, or UserError with its process. First, process groups that a
    killed flow left are ended, and files that a kill or a power cut damaged are repaired, with a
    line on stderr for each repair."""
    with ExitStack() as stack:
        try:
            stack.enter_context(owned_lock(root / state_dir.FLOW_LOCK, wait))
        except LockedElsewhere as error:
            raise refuse(
                str(root),
                f"another flow at work ({error})",
                "no other flow",
                "Wait for it, or end it with Ctrl-C.",
            ) from None

        process_groups.folder(root).mkdir(parents=True, exist_ok=True)
        process_groups.end_orphans(root)
        for line in repair.repair(root):
            print(f"seqline: {line}", file=sys.stderr, flush=True)
        try:
            yield
        finally:
            lock_repair.save_copy(root)
