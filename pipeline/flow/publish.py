"""The section `publish` of flow.yaml: push a retraining's outputs to DVC's remote, commit and tag.

A failed step is reported and undoes nothing.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from pipeline.core import git
from pipeline.core.errors import describe_error
from pipeline.tracking import describe

Completed = subprocess.CompletedProcess[bytes]

_PUSH_SECONDS = 3600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Publish:
    """`push` sends every output to `remote` (null for DVC's default one). `commit` commits dvc.lock
    and the tracked reports, nothing else; `tag` sets a tag for each new champion on a commit that
    holds them, which no branch leads to if HEAD does not hold them."""

    push: bool
    remote: str | None
    commit: bool
    tag: bool


class PublishResult(NamedTuple):
    """A line for each step, and whether all steps succeeded."""

    lines: list[str]
    succeeded: bool


class CommandFailed(Exception):
    """A failed command, with the end of its output."""


def publish(root: Path, settings: Publish, champions: Sequence[str], message: str) -> PublishResult:
    """Run the steps that the settings select. `champions` are `<name>/<version>`."""
    steps: list[tuple[str, Callable[[], str]]] = []
    if settings.push:
        steps.append(("dvc push", lambda: _push(root, settings.remote)))
    if settings.commit:
        steps.append(("git commit", lambda: _commit(root, message)))
    if settings.tag:
        steps += [
            ("git tag", partial(_tag, root, f"champion/{champion}", message))
            for champion in champions
        ]

    lines = []
    succeeded = True
    for command, run in steps:
        try:
            lines.append(f"{command}: {run()}")
        except CommandFailed as error:
            lines.append(f"{command} failed: {describe_error(error)}")
            succeeded = False
    return PublishResult(lines, succeeded)


def _push(root: Path, remote: str | None) -> str:
    """Push every output; return DVC's last line."""
    command = [sys.executable, "-m", "dvc", "push"]
    if remote:
        command += ["--remote", remote]
    completed = _within_limit(
        lambda: subprocess.run(command, cwd=root, capture_output=True, timeout=_PUSH_SECONDS)
    )
    lines = _output(completed).splitlines()
    return lines[-1] if lines else "done"


def _commit(root: Path, message: str) -> str:
    """Commit the DAG's tracked outputs; leave all other staged and edited files as they are."""
    paths = tracked_outputs(root)
    if not _git(root, "status", "--porcelain", "--", *paths):
        return "nothing to commit"
    _git(root, "add", "--", *paths)
    # No hooks: they may stash the user's edits for a while, and they check files that people write.
    _git(root, "commit", "--quiet", "--no-verify", "--only", "-m", message, "--", *paths)
    return _git(root, "rev-parse", "--short", "HEAD")


def _tag(root: Path, tag: str, message: str) -> str:
    """Tag a commit that holds the present files: HEAD, or else one that no branch leads to."""
    if _git(root, "tag", "--list", tag):
        if _git(root, "rev-parse", f"{tag}:dvc.lock") == _git(root, "hash-object", "dvc.lock"):
            return f"{tag} is there already"
        raise CommandFailed(f"{tag} already exists, on a commit of another dvc.lock")

    paths = tracked_outputs(root)
    changed = _git(root, "status", "--porcelain", "--", *paths)
    _git(root, "tag", tag, _detached_commit(root, paths, message) if changed else "HEAD")
    return tag


def _detached_commit(root: Path, paths: Sequence[str], message: str) -> str:
    """Commit these files on top of HEAD, moving no branch; return the commit.

    A temporary index leaves the user's staged changes alone.
    """
    with tempfile.TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": f"{folder}/index"}
        _git(root, "read-tree", "HEAD", **index)
        _git(root, "add", "--", *paths, **index)
        tree = _git(root, "write-tree", **index)
        return _git(root, "commit-tree", tree, "-p", "HEAD", "-m", message)


def tracked_outputs(root: Path) -> list[str]:
    """List dvc.lock and the outputs that git does not ignore, relative to the root."""
    outs = [
        out["path"] for stage in describe.read_lock(root).values() for out in stage.get("outs", [])
    ]
    existing = [path for path in outs if (root / path).exists()]
    names = os.fsencode("\0".join(existing))
    completed = _within_limit(
        lambda: git.run_git(root, "check-ignore", "-z", "--stdin", stdin=names)
    )
    ignored = os.fsdecode(completed.stdout).split("\0")
    return ["dvc.lock", *sorted(set(existing) - set(ignored))]


def _git(root: Path, *arguments: str, **environment: str) -> str:
    return _output(_within_limit(lambda: git.run_git(root, *arguments, env=environment)))


def _within_limit(run: Callable[[], Completed]) -> Completed:
    """Run a command; raise CommandFailed if it exceeds its time limit."""
    try:
        return run()
    except subprocess.TimeoutExpired as error:
        raise CommandFailed(f"not done within {error.timeout:g} s") from None


def _output(completed: Completed) -> str:
    """Return the command's output, or raise CommandFailed."""
    if completed.returncode:
        output = " ".join(_text(completed.stderr or completed.stdout).split())
        raise CommandFailed(output[-300:] or f"status {completed.returncode}")
    return _text(completed.stdout).strip()


def _text(output: bytes) -> str:
    return output.decode("utf-8", "replace")
