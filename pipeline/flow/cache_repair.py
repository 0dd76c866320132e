"""Objects of DVC's cache, and outputs, whose content is not what their md5 says: found by hashing, removed or distrusted.

DVC trusts an object that is read-only, and an output whose inode, size and time it knows. A power cut, a disk, or a program
that keeps a file's time can make both wrong.
"""

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

import yaml

from pipeline.landing import replace_file, sync_folder, write_file

_VERIFIED = Path(".seqline/flow/verified.json")
_OBJECT = re.compile(r"[0-9a-f]{30}(\.dir)?")


class Places(NamedTuple):
    """Where DVC keeps its things: the cache, and the databases of the project's hashes."""

    cache: Path
    site: Path


class Verified:
    """Files that were hashed, by path: inode, size, times, md5, and the md5 that DVC was asked about in vain.

    A file of the same inode, size and times has the same content.
    """

    def __init__(self, root: Path, thorough: bool) -> None:
        self._path = root / _VERIFIED
        self._known: dict[str, list[Any]] = {}
        self._seen: dict[str, list[Any]] = {}
        if not thorough:
            with suppress(OSError, ValueError, RecursionError):
                content = json.loads(self._path.read_text(encoding="utf-8"))
                self._known = content if _are_records(content) else {}

    def md5(self, file: Path) -> str:
        """The md5 of the file's content; OSError if it cannot be read."""
        name, now = str(file), _numbers(file)
        for records in (self._seen, self._known):
            if (record := records.get(name)) and record[:4] == now:
                self._seen[name] = record
                return str(record[4])
        with file.open("rb") as opened:
            found = hashlib.file_digest(opened, "md5").hexdigest()
        self._seen[name] = [*now, found, ""]
        return found

    def asked(self, file: Path, expected: str) -> bool:
        """Whether DVC knows already that this file has not the md5 `expected`."""
        return bool(self._seen[str(file)][5] == expected)

    def ask_no_more(self, file: Path, expected: str) -> None:
        """Remember that DVC knows."""
        self._seen[str(file)] = [*self._seen[str(file)][:5], expected]

    def save(self) -> None:
        """Keep what was seen this time."""
        if self._seen != self._known:
            with suppress(OSError):  # a full disk: everything is hashed again the next time
                write_file(self._path, json.dumps(self._seen).encode())


def _are_records(content: Any) -> bool:
    """Whether this is what `Verified.save` writes, and no damaged file."""
    if not isinstance(content, dict):
        return False
    return all(isinstance(record, list) and len(record) == 6 for record in content.values())


def _numbers(file: Path) -> list[int]:
    known = file.stat()
    if not stat.S_ISREG(known.st_mode):  # reading a pipe would never end
        raise OSError(errno.EINVAL, "no file", str(file))
    return [known.st_ino, known.st_size, known.st_mtime_ns, known.st_ctime_ns]


def problems(root: Path, places: Places, verified: Verified) -> list[Callable[[], str]]:
    """What removes damaged objects of the cache, if there are any."""
    damaged = []
    objects = places.cache / "files" / "md5"
    for file in objects.glob("[0-9a-f][0-9a-f]/*"):
        with suppress(OSError):  # gone meanwhile, another user's, or a folder: of these DVC tells when it needs them
            if _OBJECT.fullmatch(file.name) and verified.md5(file) != _oid(file).removesuffix(".dir"):
                damaged.append(file)
    return [lambda: _remove_objects(root, places, verified, damaged)] if damaged else []


def _oid(file: Path) -> str:
    return file.parent.name + file.name


def _object(places: Places, oid: str) -> Path:
    return places.cache / "files" / "md5" / oid[:2] / oid[2:]


def _remove_objects(root: Path, places: Places, verified: Verified, damaged: list[Path]) -> str:
    for file in damaged:
        file.unlink(missing_ok=True)
    back = _put_back(root, places, verified, {_oid(file) for file in damaged})
    named = ", ".join(_oid(file)[:8] for file in damaged[:3]) + (", ..." if len(damaged) > 3 else "")
    rest = len(damaged) - back
    todo = f"; {rest} are made or pulled again when they are needed" if rest else ""
    return f"DVC's cache: removed {len(damaged)} damaged objects ({named}), {back} put back from the workspace{todo}"


def _put_back(root: Path, places: Places, verified: Verified, missing: set[str]) -> int:
    """Add objects to the cache again whose content the workspace has; how many."""
    back = 0
    for out, md5 in _outs(root):
        contents: dict[str, Path | bytes] = {}
        if not md5.endswith(".dir"):
            contents[md5] = out
        elif out.is_dir():
            files = sorted(path for path in out.rglob("*") if path.is_file())
            with suppress(OSError):
                listed = [{"md5": verified.md5(file), "relpath": file.relative_to(out).as_posix()} for file in files]
                listed.sort(key=lambda entry: entry["relpath"])
                contents = {verified.md5(file): file for file in files}
                contents[md5] = json.dumps(listed, sort_keys=True).encode()
        for oid, content in contents.items():
            if oid in missing and _add_object(_object(places, oid), oid, content, verified):
                missing.discard(oid)
                back += 1
    return back


def _add_object(place: Path, oid: str, content: Path | bytes, verified: Verified) -> bool:
    """Write an object if the content is the one that it names."""
    try:
        md5 = hashlib.md5(content).hexdigest() if isinstance(content, bytes) else verified.md5(content)
        if md5 != oid.removesuffix(".dir"):
            return False
        beside = place.with_name(f".{place.name}.{os.getpid()}.tmp")
        if isinstance(content, bytes):
            beside.write_bytes(content)
        else:
            shutil.copyfile(content, beside)
        replace_file(beside, place)
        place.chmod(0o444)
        sync_folder(place.parent)
    except OSError:
        return False
    return True


def _outs(root: Path) -> list[tuple[Path, str]]:
    """The outputs that dvc.lock names, with their md5."""
    try:
        text = (root / "dvc.lock").read_text(encoding="utf-8")
        content = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {}
        stages = content.get("stages", {}).values()
        return [(root / out["path"], out["md5"]) for stage in stages for out in stage.get("outs", []) if "md5" in out]
    except (OSError, ValueError, yaml.YAMLError, AttributeError, TypeError, KeyError):
        return []


def unlike_lock(root: Path, places: Places, verified: Verified) -> list[tuple[Path, str]]:
    """Files of outputs whose content is not what dvc.lock says, with the md5 there; not those that DVC was asked about."""
    found = []
    for out, md5 in _outs(root):
        for file, expected in _files(out, md5, places):
            with suppress(OSError):
                if file.is_file() and verified.md5(file) != expected and not verified.asked(file, expected):
                    found.append((file, expected))
    return found


def _files(out: Path, md5: str, places: Places) -> list[tuple[Path, str]]:
    if not md5.endswith(".dir"):
        return [(out, md5)]
    try:
        listed = json.loads(_object(places, md5).read_bytes())
        return [(out / entry["relpath"], entry["md5"]) for entry in listed]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def distrust(root: Path, places: Places, verified: Verified) -> list[str]:
    """Give a new time to files that DVC's database has another md5 of, which it would go by."""
    from dvc.repo import Repo

    unlike = unlike_lock(root, places, verified)
    if not unlike:
        return []
    lines = []
    with Repo(str(root)) as repo:
        for file, expected in unlike:
            verified.ask_no_more(file, expected)
            _, known = repo.state.get(str(file), repo.fs)
            if known is not None and known.value != verified.md5(file):
                os.utime(file, (time.time(), time.time()))
                name = file.relative_to(root)
                lines.append(f"{name}: damaged, though its size and time are those that DVC knows; the next run restores it")
    return lines
