"""What a kill or a power cut leaves damaged in DVC's own files, found and mended before it stops or misleads anybody.

- `.dvc/tmp/rwlock` half written: no dvc starts any more. It is removed, and so are entries of processes that are gone.
- `dvc.lock` cut off, as plain dvc writes over it: its complete stages are kept, the others come from the last complete lock.
- A folder of DVC's run cache without an entry: that stage would fail for ever. It is removed.
- DVC's SQLite databases damaged: they are removed. DVC hashes the outputs again, once.
- Objects of DVC's cache that are not what their name says: they are removed, and put back if the workspace has the content.
- Outputs that changed while DVC's database takes them for unchanged: they get a new time, so that DVC looks at them.

Nothing is touched while another dvc works. When all is well nothing is said, DVC is not imported, and only files that are
new since the last time are hashed (`thorough` hashes all).
"""

import json
import os
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from pipeline.flow import cache_repair, lock_repair
from pipeline.flow.cache_repair import Places, Verified
from pipeline.landing import write_file

_PLACE = Path(".seqline/flow")
_PLACES = _PLACE / "dvc.json"
_CLOCK_SECONDS = 5.0  # a process's start and a file's time may differ by this much though one caused the other
_DATABASES = ("hashes/local/cache.db", "links/cache.db", "index/data/db.db")
_NO_DATABASE = ("not a database", "malformed", "disk image", "corrupt")  # of SQLite's messages; others may pass

Mend = Callable[[], str]  # repairs something damaged, and returns the line that says what was done


def repair(root: Path, thorough: bool = False) -> list[str]:
    """Mend what is damaged and return a line for each; nothing is done, and [] returned, while another dvc works."""
    if not (root / ".dvc").is_dir():
        return []

    (root / _PLACE).mkdir(parents=True, exist_ok=True)
    places = None if thorough else _known_places(root)
    verified = Verified(root, thorough)
    suspicious = places is None or _is_suspicious(root, places, verified)
    lines = _repair(root, verified) if suspicious else []
    verified.save()
    lock_repair.keep(root)
    return lines


def _is_suspicious(root: Path, places: Places, verified: Verified) -> bool:
    """Whether anything looks damaged, without DVC and its locks."""
    problems = [
        *_rwlock_problems(root),
        *lock_repair.problems(root),
        *_run_cache_problems(places),
        *_database_problems(places),
        *cache_repair.problems(root, places, verified),
    ]
    return bool(problems) or bool(cache_repair.unlike_lock(root, places, verified))


def _repair(root: Path, verified: Verified) -> list[str]:
    """Look again under DVC's locks, and mend."""
    from dvc.exceptions import DvcException
    from dvc.lock import LockError, make_lock
    from dvc.scm import SCMError

    lines: list[str] = []
    with ExitStack() as held:
        try:
            repo = held.enter_context(_repo(root))
        except (DvcException, SCMError):  # no repository of git's, or a damaged configuration: dvc tells of it
            return lines
        places = Places(Path(repo.cache.legacy.path), Path(repo.site_cache_dir))
        write_file(root / _PLACES, json.dumps({"key": _key(root), "places": list(map(str, places))}).encode())
        hardlink = repo.config["core"].get("hardlink_lock", False)
        guard = make_lock(os.path.join(repo.tmp_dir, "rwlock.lock"), tmp_dir=repo.tmp_dir, hardlink_lock=hardlink)
        try:
            held.enter_context(repo.lock)
            with guard:
                lines += [mend() for mend in _rwlock_problems(root)]
        except LockError:  # another dvc works: it is in order, or will be when it is done
            return lines
        if _users(root):
            return lines

        for look in (lock_repair.problems, lambda _: _run_cache_problems(places), lambda _: _database_problems(places)):
            lines += [mend() for mend in look(root)]
        lines += [mend() for mend in cache_repair.problems(root, places, verified)]
    lines += cache_repair.distrust(root, places, verified)
    return lines


@contextmanager
def _repo(root: Path) -> Iterator[Any]:
    """DVC's view of the project, without its database of hashes, which may be damaged."""
    from dvc.repo import Repo
    from dvc_data.hashfile import state

    by_dvc = state.State
    state.State = lambda *args: state.StateNoop()  # type: ignore[assignment,misc]
    try:
        repo = Repo(str(root), _wait_for_lock=False)
    finally:
        state.State = by_dvc  # type: ignore[misc]
    with closing(repo):
        yield repo


def _key(root: Path) -> list[Any]:
    """What DVC's places depend on."""
    files = [root / ".dvc" / "config", root / ".dvc" / "config.local", root / ".dvc" / "tmp" / "btime"]
    return [str(root), os.environ.get("DVC_SITE_CACHE_DIR"), *(_changed(file) for file in files)]


def _changed(file: Path) -> int | None:
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return None


def _known_places(root: Path) -> Places | None:
    """What DVC said of its places the last time, or None if it has to be asked."""
    try:
        known = json.loads((root / _PLACES).read_text(encoding="utf-8"))
        cache, site = known["places"]
        return Places(Path(cache), Path(site)) if known["key"] == _key(root) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


# --- .dvc/tmp/rwlock


def _rwlock_problems(root: Path) -> list[Mend]:
    path = root / ".dvc" / "tmp" / "rwlock"
    entries = _rwlock(path)
    if entries is None:
        return [lambda: _remove_rwlock(path)]
    gone = {pid for pid in _pids(entries) if _was_taken_over(pid, path)}
    return [lambda: _forget(path, gone)] if gone else []


def _rwlock(path: Path) -> dict[str, dict[str, Any]] | None:
    """The list of files in use, by `read` and `write`; None if it is not whole."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or not content.keys() <= {"read", "write"}:
        return None
    if not all(isinstance(part, dict) for part in content.values()):
        return None
    return content if all(_is_pid(pid) for pid in _pids(content)) else None


def _is_pid(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 31


def _pids(entries: Mapping[str, Mapping[str, Any]]) -> list[Any]:
    """The number of each process that the list names; None where an entry has none."""
    return [info.get("pid") for part in entries.values() for found in part.values() for info in _infos(found)]


def _infos(found: Any) -> list[dict[str, Any]]:
    return [info for info in (found if isinstance(found, list) else [found]) if isinstance(info, dict)]


def _was_taken_over(pid: int, rwlock: Path) -> bool:
    """Whether the number belongs to a process that began after the list was written: DVC would wait for it in vain."""
    try:
        return bool(psutil.Process(pid).create_time() > rwlock.stat().st_mtime + _CLOCK_SECONDS)
    except (psutil.Error, OSError):
        return False  # gone: DVC sees to that itself


def _users(root: Path) -> set[int]:
    """Other processes that DVC has on record as at work in the project, and that live."""
    pids = set(_pids(_rwlock(root / ".dvc" / "tmp" / "rwlock") or {}))
    return {pid for pid in pids - {os.getpid()} if psutil.pid_exists(pid)}


def _remove_rwlock(path: Path) -> str:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    return f".dvc/tmp/{path.name}: removed, as it was half written and no dvc would have started"


def _forget(path: Path, gone: set[int]) -> str:
    kept: dict[str, dict[str, Any]] = {}
    for kind, part in (_rwlock(path) or {}).items():
        for name, found in part.items():
            infos = [info for info in _infos(found) if info.get("pid") not in gone]
            if infos:
                kept.setdefault(kind, {})[name] = infos if isinstance(found, list) else infos[0]
    write_file(path, json.dumps(kept).encode())
    return f".dvc/tmp/{path.name}: removed entries of processes that are gone ({', '.join(map(str, sorted(gone)))})"


# --- DVC's run cache and databases


def _run_cache_problems(places: Places) -> list[Mend]:
    problems = []
    for folder in (places.cache / "runs").glob("*/*"):
        with suppress(OSError):
            if folder.is_dir() and not any(_is_entry(file) for file in folder.iterdir()):
                problems.append(folder)
    return [lambda: _remove_runs(problems)] if problems else []


def _is_entry(file: Path) -> bool:
    return re.fullmatch(r"[0-9a-f]{64}", file.name) is not None and file.stat().st_size > 0


def _remove_runs(folders: Iterable[Path]) -> str:
    names = []
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
        names.append(folder.name[:8])
    return f".dvc/cache/runs: removed {len(names)} folders without an entry ({', '.join(names[:3])})"


def _database_problems(places: Places) -> list[Mend]:
    damaged = [file for name in _DATABASES if (reason := _damage(file := places.site / name)) if reason]
    return [lambda: _remove_databases(damaged)] if damaged else []


def _damage(file: Path) -> str:
    """Why SQLite cannot use the file, or nothing."""
    if not file.exists():
        return ""
    if not file.is_file():
        return "no file"
    try:
        with closing(sqlite3.connect(file, timeout=1.0)) as database:
            [said] = database.execute("PRAGMA quick_check(1)").fetchone()
        return "" if said == "ok" else str(said)
    except sqlite3.DatabaseError as error:  # which `database is locked` is too
        return str(error) if any(word in str(error) for word in _NO_DATABASE) else ""


def _remove_databases(files: Iterable[Path]) -> str:
    names = []
    for file in files:
        for each in file.parent.glob(f"{file.name}*"):  # -wal and -shm too
            if each.is_dir():
                shutil.rmtree(each)
            else:
                each.unlink(missing_ok=True)
        names.append(str(file))
    return f"DVC's database of hashes: removed, as it was damaged ({', '.join(names)}); outputs are hashed again, once"
