"""`python -m pipeline.dag.durable_dvc ARGUMENT...`: `dvc` that leaves nothing half written after a
kill or a power cut.

It is DVC itself with the replacements of dvc_patches.py, unless flow.yaml has `run.dvc: plain`."""

import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.core.errors import exit_with
from pipeline.dag import dvc_patches, run_settings


def dvc(arguments: Sequence[str]) -> int:
    """Run DVC's command in this process and return its exit status."""
    from dvc.cli import main

    sys.argv = ["dvc", *arguments]  # DVC writes it into its own locks
    return int(main(list(arguments)) or 0)


def main() -> None:
    if not Path(run_settings.FILE).exists() or run_settings.load(Path()).dvc == "patched":
        dvc_patches.apply()
    sys.exit(dvc(sys.argv[1:]))


if __name__ == "__main__":
    exit_with(main)
