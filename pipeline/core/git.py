"""git as a child process: the only module that runs it."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

TIMEOUT_SECONDS = 60.0  # of one command


def run_git(
    root: Path,
    *arguments: str,
    env: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
) -> "subprocess.CompletedProcess[bytes]":
    """Run a git command in the folder `root`, whatever its exit status; `env` adds variables.

    Raises FileNotFoundError without git, and subprocess.TimeoutExpired."""
    return subprocess.run(
        ["git", "-C", str(root), *arguments],
        env={**os.environ, **(env or {})},
        input=stdin,
        capture_output=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )


def output(root: Path, *arguments: str) -> bytes | None:
    """Return the stdout of a git command in the folder `root`; None if the command fails, as
    outside of a repository, or without git."""
    try:
        completed = run_git(root, *arguments)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return completed.stdout if completed.returncode == 0 else None


def text_output(root: Path, *arguments: str) -> str:
    """Return `output` as text, with U+FFFD for bytes that are no UTF-8; "" if there is none."""
    return (output(root, *arguments) or b"").decode("utf-8", "replace")
