"""Repair of a `dvc.lock` that a kill cut off: from its complete stages, the last complete copy of
it, and git.

Plain dvc overwrites the file in place, so that a kill in that moment leaves a part of it, or
nothing. Entries of stages that are lost cost no training: the next run takes their outputs from
DVC's run cache."""

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import yaml

from pipeline.core import config, git, state_dir
from pipeline.core.atomic import write_file
from pipeline.core.errors import UserError
from pipeline.dag import lockfile

_CONFLICT = re.compile(r"^(<{7}|>{7}) ", re.MULTILINE)  # git's markers: a person has to choose
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def problems(root: Path) -> list[Callable[[], str]]:
    """Return a repair of a `dvc.lock` that was cut off; none for one that is complete, absent, or
    in conflict."""
    path = root / "dvc.lock"
    try:
        content = path.read_bytes()
    except OSError:
        return []  # none yet, or no regular file, which DVC reports
    text = _text(content)
    if content == _copy(root) or is_complete(root, text) or _CONFLICT.search(text):
        return []

    previous, origin = _last_complete(root)
    intact = complete_stages(root, text)
    missing = {name: lines for name, lines in previous.items() if name not in intact}
    stages = intact | missing
    restored = lockfile.join_stages(stages) if stages else ""
    if restored and restored == text:
        return []

    def restore() -> str:
        write_file(root / state_dir.DVC_LOCK_DAMAGED, content)
        if restored:
            write_file(path, restored.encode())
        else:
            path.unlink()
        source = f", {len(missing)} from {origin}" if missing else ""
        return (
            f"dvc.lock: restored, as it was cut off ({len(intact)} stages from its beginning"
            f"{source}); the next run takes what is missing from DVC's run cache"
        )

    return [restore]


def _copy(root: Path) -> bytes | None:
    """Return the copy by `save_copy`, which was complete by the dvc.yaml of that time."""
    try:
        return (root / state_dir.DVC_LOCK_COPY).read_bytes()
    except OSError:
        return None


def _text(content: bytes) -> str:
    return content.decode("utf-8", "replace")


def is_complete(root: Path | None, text: str) -> bool:
    """Return whether a lock file was written to its end: its last stage has every output of
    dvc.yaml in `root`.

    With None for `root` outputs are not counted: for an older lock, whose dvc.yaml may have been
    another."""
    if not text.endswith("\n") or "\0" in text:
        return False
    stages = lockfile.split_stages(text)
    if stages is None:  # edited by hand, or written by another version of DVC
        try:
            content = yaml.load(text, _LOADER)
        except yaml.YAMLError:
            return False
        return isinstance(content, dict) and isinstance(content.get("stages"), dict)

    # Only the last stage can be cut off.
    last = next(reversed(stages), None)
    return last is not None and _is_stage_complete(root, last, stages[last])


def complete_stages(root: Path, text: str) -> dict[str, str]:
    """Return the complete stages at the beginning of a damaged lock file, by name."""
    stages = lockfile.leading_stages(text)
    last = next(reversed(stages), None)
    return {
        name: part
        for name, part in stages.items()
        if name != last or _is_stage_complete(root, name, part)
    }


def _is_stage_complete(root: Path | None, name: str, part: str) -> bool:
    """Return whether the lines of a stage end where DVC ends them: with its last output's size and
    number of files."""
    try:
        stage = yaml.safe_load(part)[name]
        outs = stage.get("outs")
    except (yaml.YAMLError, AttributeError, KeyError, TypeError):
        return False
    if not part.endswith("\n") or "cmd" not in stage:
        return False

    # DVC writes the outputs last: all of them must be there, and the last one to its end.
    if root is not None and len(outs or []) < _number_of_outs(root, name):
        return False
    if not outs:
        return True
    last = outs[-1]
    if not isinstance(last, dict) or not isinstance(last.get("md5"), str) or "size" not in last:
        return False
    return "nfiles" in last or not last["md5"].endswith(".dir")


def _number_of_outs(root: Path, name: str) -> int:
    """Return the number of outputs that dvc.yaml gives the stage; 1 if it cannot be read."""
    try:
        block = config.read(root / "dvc.yaml", strict=False)["stages"][name.partition("@")[0]]
        stage = block.get("do", block)
        return sum(len(stage.get(kind) or []) for kind in ("outs", "metrics", "plots"))
    except (UserError, KeyError, TypeError, AttributeError):
        return 1


def _last_complete(root: Path) -> tuple[dict[str, str], str]:
    """Return the stages of the newest complete lock, by name, and its origin: the copy or git's
    HEAD."""
    locks: list[tuple[float, str, str]] = []  # time, text, origin
    copy = root / state_dir.DVC_LOCK_COPY
    with suppress(OSError, ValueError):
        text = copy.read_text(encoding="utf-8")
        locks.append((copy.stat().st_mtime, text, str(state_dir.DVC_LOCK_COPY)))
    committed = git.text_output(root, "show", "HEAD:./dvc.lock")
    if committed:
        seconds = git.text_output(root, "log", "-1", "--format=%ct", "--", "dvc.lock").strip()
        locks.append((float(seconds or 0), committed, "git's HEAD"))

    for _, text, origin in sorted(locks, reverse=True):
        # dvc.yaml may have gained outputs since then, so they are not counted here.
        if is_complete(None, text) and (stages := lockfile.split_stages(text)):
            return stages, origin
    return {}, ""


def save_copy(root: Path) -> None:
    """Copy a complete `dvc.lock` to the place from which a later repair restores it."""
    with suppress(FileNotFoundError):
        content = (root / "dvc.lock").read_bytes()
        if content != _copy(root) and is_complete(root, _text(content)):
            write_file(root / state_dir.DVC_LOCK_COPY, content)
