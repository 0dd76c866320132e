"""`python -m pipeline.dag.durable_dvc ARGUMENT...`: `dvc` that leaves nothing half written after a
kill or a power cut.

It is DVC itself, changed by lockfile.py: `dvc.lock` is replaced in one step, when the disk has the
cache's objects and the outputs."""

import sys
from collections.abc import Sequence

from pipeline.dag import lockfile


def dvc(arguments: Sequence[str]) -> int:
    """Run the command in this process and return its exit status."""
    lockfile.fit()
    from dvc.cli import main

    sys.argv = ["dvc", *arguments]  # what DVC notes in its own locks
    return int(main(list(arguments)) or 0)


if __name__ == "__main__":
    sys.exit(dvc(sys.argv[1:]))
