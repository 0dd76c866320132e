"""`publish` of flow.yaml: what a retraining made goes to DVC's remote and into git. A failure is
told and undoes nothing."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from pipeline.core.errors import told
from pipeline.tracking import describe

_PUSH_SECONDS = 3600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Publish:
    """`push` sends every output to `remote` (null for DVC's default one). `commit` commits dvc.lock
    and the tracked reports, nothing else; `tag` sets a tag for each new champion on a commit that
    holds them, made beside the branch if need be."""

    push: bool
    remote: str | None
    commit: bool
    tag: bool


class PublishResult(NamedTuple):
    """A line for each thing done or failed, and whether all of them were done."""

    lines: list[str]
    succeeded: bool


class CommandFailed(Exception):
    """A command that failed, with what it said."""


def publish(root: Path, settings: Publish, champions: Sequence[str], message: str) -> PublishResult:
    """Do what the settings ask for, and has not been done before. `champions` are
    `<name>/<version>`."""
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
    lines, well = [], True
    for what, do in steps:
        try:
            lines.append(f"{what}: {do()}")
        except CommandFailed as error:
            lines.append(f"{what} failed: {told(error)}")
            well = False
    return PublishResult(lines, well)


def _push(root: Path, remote: str | None) -> str:
    words = ["push", *(["--remote", remote] if remote else [])]
    said = _run(root, [sys.executable, "-m", "dvc", *words], seconds=_PUSH_SECONDS).splitlines()
    return said[-1] if said else "done"


def _commit(root: Path, message: str) -> str:
    """Commit what the DAG made and git may have, and leave whatever else is staged or edited as it
    is."""
    paths = _generated(root)
    if not _git(root, "status", "--porcelain", "--", *paths):
        return "nothing to commit"
    _git(root, "add", "--", *paths)
    # No hooks: they may put the user's own edits aside for a while, and what is committed here
    # nobody wrote.
    _git(root, "commit", "--quiet", "--no-verify", "--only", "-m", message, "--", *paths)
    return _git(root, "rev-parse", "--short", "HEAD")


def _tag(root: Path, tag: str, message: str) -> str:
    """Tag a commit that holds the files as they are: the branch's, or one that no branch leads
    to."""
    if _git(root, "tag", "--list", tag):
        if _git(root, "rev-parse", f"{tag}:dvc.lock") == _git(root, "hash-object", "dvc.lock"):
            return f"{tag} is there already"
        raise CommandFailed(f"{tag} already exists, on a commit of another dvc.lock")
    paths = _generated(root)
    changed = _git(root, "status", "--porcelain", "--", *paths)
    _git(root, "tag", tag, _beside(root, paths, message) if changed else "HEAD")
    return tag


def _beside(root: Path, paths: Sequence[str], message: str) -> str:
    """A commit on top of HEAD with these files as they are, made in an index of its own."""
    with tempfile.TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": f"{folder}/index"}
        _git(root, "read-tree", "HEAD", **index)
        _git(root, "add", "--", *paths, **index)
        return _git(
            root, "commit-tree", _git(root, "write-tree", **index), "-p", "HEAD", "-m", message
        )


def _generated(root: Path) -> list[str]:
    """dvc.lock and the outputs that git does not ignore, as paths from the root."""
    outs = [out["path"] for stage in describe.lock(root).values() for out in stage.get("outs", [])]
    there = [path for path in outs if (root / path).exists()]
    kept_out = subprocess.run(
        ["git", "check-ignore", "-z", "--stdin"],
        cwd=root,
        input="\0".join(there),
        capture_output=True,
        text=True,
    )
    return ["dvc.lock", *sorted(set(there) - set(kept_out.stdout.split("\0")))]


def _git(root: Path, *words: str, **environment: str) -> str:
    return _run(root, ["git", *words], environment)


def _run(
    root: Path,
    words: Sequence[str],
    environment: Mapping[str, str] | None = None,
    seconds: float = 60.0,
) -> str:
    try:
        done = subprocess.run(
            words,
            cwd=root,
            env={**os.environ, **(environment or {})},
            capture_output=True,
            text=True,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        raise CommandFailed(f"not done within {seconds:g} s") from None
    if done.returncode:
        raise CommandFailed(
            " ".join((done.stderr or done.stdout).split())[-300:] or f"status {done.returncode}"
        )
    return done.stdout.strip()
