"""Repair of objects in DVC's cache, and of outputs, whose content does not have their md5: detected
by hashing.

DVC trusts an object that is read-only, and an output whose inode, size and time it knows. A power
cut, a disk, or a program that keeps a file's time can make both wrong."""

import errno
import hashlib
import json
import os
import re
import shutil
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.core import config, state_dir
from pipeline.core.atomic import replace_file, sync_folder, write_file
from pipeline.core.digest import file_digest
from pipeline.core.errors import UserError
from pipeline.dag.cache import folder_listing

_OBJECT = re.compile(r"[0-9a-f]{30}(\.dir)?")  # a name in files/md5/XX/, after the first two digits


class Places(NamedTuple):
    """Folders of DVC: its cache, and `site` with the databases of the project's hashes."""

    cache: Path
    site: Path


class Verified:
    """Record of hashed files, by path: inode, size, times, md5, and the md5 in dvc.lock that DVC
    knows it lacks, or "".

    A file of the same inode, size and times has the same content.
    """

    def __init__(self, root: Path, thorough: bool) -> None:
        self._path = root / state_dir.VERIFIED
        self._previous: dict[str, list[Any]] = {}
        self._current: dict[str, list[Any]] = {}
        if not thorough:
            with suppress(OSError, ValueError, RecursionError):
                content = json.loads(self._path.read_text(encoding="utf-8"))
                # Only what has the form that `save` writes.
                if isinstance(content, dict) and all(
                    isinstance(record, list) and len(record) == 6 for record in content.values()
                ):
                    self._previous = content

    def md5(self, file: Path) -> str:
        """The md5 of the file's content; OSError if it cannot be read."""
        name = str(file)
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):  # reading a pipe would never end
            raise OSError(errno.EINVAL, "no file", name)
        numbers = [status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
        record = self._current.get(name) or self._previous.get(name)
        if not record or record[:4] != numbers:
            record = [*numbers, file_digest(file, "md5"), ""]
        self._current[name] = record
        return str(record[4])

    def is_reported(self, file: Path, expected: str) -> bool:
        """Return whether DVC already knows that the file, hashed before, does not have the md5
        `expected`."""
        return bool(self._current[str(file)][5] == expected)

    def set_reported(self, file: Path, expected: str) -> None:
        """Record that DVC knows."""
        self._current[str(file)] = [*self._current[str(file)][:5], expected]

    def save(self) -> None:
        """Write the record of the files that were hashed or looked up this time."""
        if self._current != self._previous:
            with suppress(OSError):  # a full disk: everything is hashed again the next time
                write_file(self._path, json.dumps(self._current).encode())


def problems(root: Path, places: Places, verified: Verified) -> list[Callable[[], str]]:
    """Return a repair that removes the damaged objects of the cache, if there are any."""
    damaged: list[Path] = []
    objects = places.cache / "files" / "md5"
    for file in objects.glob("[0-9a-f][0-9a-f]/*"):
        # Removed meanwhile, another user's, or a folder: DVC reports it when it needs the object.
        with suppress(OSError):
            if _OBJECT.fullmatch(file.name) and verified.md5(file) != _oid(file)[:32]:
                damaged.append(file)
    return [lambda: _remove_objects(root, places, verified, damaged)] if damaged else []


def _oid(file: Path) -> str:
    """DVC's object id: the md5 that the object's path spells, with `.dir` for a folder."""
    return file.parent.name + file.name


def _object(places: Places, oid: str) -> Path:
    return places.cache / "files" / "md5" / oid[:2] / oid[2:]


def _remove_objects(root: Path, places: Places, verified: Verified, damaged: list[Path]) -> str:
    for file in damaged:
        file.unlink(missing_ok=True)

    # Add the objects again whose content the workspace has.
    missing = {_oid(file) for file in damaged}
    for out, md5 in _outs(root):
        for oid, content in _contents(out, md5, verified).items():
            if oid in missing and _add_object(_object(places, oid), oid, content, verified):
                missing.discard(oid)

    names = ", ".join(_oid(file)[:8] for file in damaged[:3])
    if len(damaged) > 3:
        names += ", ..."
    todo = f"; {len(missing)} are made or pulled again when they are needed" if missing else ""
    return (
        f"DVC's cache: removed {len(damaged)} damaged objects ({names}), "
        f"{len(damaged) - len(missing)} put back from the workspace{todo}"
    )


def _contents(out: Path, md5: str, verified: Verified) -> dict[str, Path | bytes]:
    """Objects that an output in the workspace can restore: a file, or the bytes of a listing."""
    if not md5.endswith(".dir"):
        return {md5: out}
    if not out.is_dir():
        return {}
    try:
        files = sorted(path for path in out.rglob("*") if path.is_file())
        md5s = {file.relative_to(out).as_posix(): verified.md5(file) for file in files}
        contents: dict[str, Path | bytes] = {verified.md5(file): file for file in files}
    except OSError:
        return {}
    return contents | {md5: folder_listing(md5s)}


def _add_object(place: Path, oid: str, content: Path | bytes, verified: Verified) -> bool:
    """Write an object if the content has its md5; return whether it was written."""
    partial = place.with_name(f".{place.name}.{os.getpid()}.tmp")
    try:
        if isinstance(content, bytes):
            md5 = hashlib.md5(content).hexdigest()
        else:
            md5 = verified.md5(content)
        if md5 != oid.removesuffix(".dir"):
            return False
        if isinstance(content, bytes):
            partial.write_bytes(content)
        else:
            shutil.copyfile(content, partial)
        replace_file(partial, place)
        place.chmod(0o444)  # DVC trusts an object that is read-only, without hashing it
        sync_folder(place.parent)
    except OSError:
        return False
    return True


def _outs(root: Path) -> list[tuple[Path, str]]:
    """Outputs that dvc.lock names, with their md5; none if it is damaged."""
    try:
        stages = config.read(root / "dvc.lock", strict=False).get("stages", {}).values()
        return [
            (root / out["path"], out["md5"])
            for stage in stages
            for out in stage.get("outs", [])
            if "md5" in out
        ]
    except (UserError, AttributeError, TypeError, KeyError):
        return []


def changed_outputs(root: Path, places: Places, verified: Verified) -> list[tuple[Path, str]]:
    """Return the files of outputs whose md5 is not the one in dvc.lock, with the latter.

    Files that DVC already knows to differ are left out.
    """
    changed = []
    for out, md5 in _outs(root):
        for file, expected in _files(out, md5, places):
            with suppress(OSError):
                if not file.is_file() or verified.md5(file) == expected:
                    continue
                if not verified.is_reported(file, expected):
                    changed.append((file, expected))
    return changed


def _files(out: Path, md5: str, places: Places) -> list[tuple[Path, str]]:
    """Files of an output, with the md5 that dvc.lock implies for each; none if its listing is not
    in the cache."""
    if not md5.endswith(".dir"):
        return [(out, md5)]
    try:
        listing = json.loads(_object(places, md5).read_bytes())
        return [(out / entry["relpath"], entry["md5"]) for entry in listing]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def touch_changed_outputs(root: Path, places: Places, verified: Verified) -> list[str]:
    """Give a new time to files for which DVC's database has an outdated md5; a line for each.

    DVC then hashes them, and so detects the damage.
    """
    from dvc.repo import Repo

    changed = changed_outputs(root, places, verified)
    if not changed:
        return []
    lines = []
    with Repo(str(root)) as repo:
        for file, expected in changed:
            verified.set_reported(file, expected)
            _, recorded = repo.state.get(str(file), repo.fs)
            if recorded is not None and recorded.value != verified.md5(file):
                os.utime(file, (time.time(), time.time()))
                lines.append(
                    f"{file.relative_to(root)}: damaged without a change of its size and time; "
                    "the next run restores it"
                )
    return lines
