"""Repair of DVC's own files that a kill or a power cut damaged.

- `.dvc/tmp/rwlock` half written: no dvc can start. It is removed, and so are entries of processes
  that have ended.
- `dvc.lock` cut off, as plain dvc overwrites it: its complete stages stay, the others come from the
  last complete lock.
- A folder of DVC's run cache without an entry: its stage would fail every time. It is removed.
- DVC's SQLite databases damaged: they are removed. DVC hashes the outputs again, once.
- Objects of DVC's cache whose content does not have the md5 of their name: they are removed, and
  put back if the workspace has the content.
- Outputs that changed although DVC's database has them as unchanged: they get a new time, so that
  DVC hashes them.

Nothing is touched while another dvc works. If nothing is damaged, nothing is printed, DVC is not
imported, and only files that are new since the last time are hashed (`thorough` hashes all)."""

import json
import os
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from pipeline.core import state_dir
from pipeline.core.atomic import write_file
from pipeline.dag import cache_repair, lock_repair
from pipeline.dag.cache_repair import Places, Verified

_CLOCK_SECONDS = 5.0  # tolerance between a process's start and a file's time
_DATABASES = ("hashes/local/cache.db", "links/cache.db", "index/data/db.db")
# Parts of SQLite's messages about damage; other errors, such as a lock, are temporary.
_DAMAGE_MESSAGES = ("not a database", "malformed", "disk image", "corrupt")

_RUN = re.compile(r"[0-9a-f]{64}")  # the name of an entry of the run cache

Repair = Callable[[], str]  # repairs something, and returns a line about it


def repair(root: Path, thorough: bool = False) -> list[str]:
    """Repair what is damaged and return a line for each repair; none is made, and [] returned,
    while another dvc works."""
    if not (root / ".dvc").is_dir():
        return []

    (root / state_dir.FLOW).mkdir(parents=True, exist_ok=True)
    places = None if thorough else _recorded_places(root)
    verified = Verified(root, thorough)
    suspicious = places is None or _is_suspicious(root, places, verified)
    lines = _repair(root, verified) if suspicious else []
    verified.save()
    lock_repair.save_copy(root)
    return lines


def _is_suspicious(root: Path, places: Places, verified: Verified) -> bool:
    """Return whether anything looks damaged, without DVC and its locks."""
    problems = _rwlock_problems(root)
    for check in _checks(root, places, verified):
        problems += check()
    return bool(problems) or bool(cache_repair.changed_outputs(root, places, verified))


def _checks(root: Path, places: Places, verified: Verified) -> list[Callable[[], list[Repair]]]:
    """Return checks for damage, each to be made after the repairs of those before it: a restored
    lock names outputs that can restore objects of the cache."""
    return [
        lambda: lock_repair.problems(root),
        lambda: _run_cache_problems(places),
        lambda: _database_problems(places),
        lambda: cache_repair.problems(root, places, verified),
    ]


def _repair(root: Path, verified: Verified) -> list[str]:
    """Check again under DVC's locks, and repair."""
    from dvc.exceptions import DvcException
    from dvc.lock import LockError, make_lock
    from dvc.scm import SCMError

    lines: list[str] = []
    with ExitStack() as stack:
        try:
            repo = stack.enter_context(_repo(root))
        except (DvcException, SCMError):
            # No git repository, or a damaged configuration, which dvc reports.
            return lines

        places = Places(Path(repo.cache.legacy.path), Path(repo.actual_site))
        write_file(
            root / state_dir.DVC_PLACES,
            json.dumps({"key": _key(root), "places": list(map(str, places))}).encode(),
        )

        # The two locks of DVC: of the repository, and of the list of files in use.
        hardlink = repo.config["core"].get("hardlink_lock", False)
        rwlock_guard = make_lock(
            os.path.join(repo.tmp_dir, "rwlock.lock"), tmp_dir=repo.tmp_dir, hardlink_lock=hardlink
        )
        try:
            stack.enter_context(repo.lock)
            with rwlock_guard:
                lines += [fix() for fix in _rwlock_problems(root)]
        except LockError:  # another dvc works, and leaves its files complete
            return lines
        # Another process uses files of DVC.
        pids = set(_pids(_rwlock(root / ".dvc" / "tmp" / "rwlock") or {})) - {os.getpid()}
        if any(psutil.pid_exists(pid) for pid in pids):
            return lines

        for check in _checks(root, places, verified):
            lines += [fix() for fix in check()]
    lines += cache_repair.touch_changed_outputs(root, places, verified)
    return lines


@contextmanager
def _repo(root: Path) -> Iterator[Any]:
    """Open the project as DVC does, but with an empty database of hashes: DVC's own may be damaged,
    and is in the folder `actual_site`."""
    from dvc.repo import Repo

    class Repository(Repo):  # type: ignore[misc]
        @property
        def site_cache_dir(self) -> str:
            return scratch

        @property
        def actual_site(self) -> str:
            return str(super().site_cache_dir)

    with (
        tempfile.TemporaryDirectory() as scratch,
        closing(Repository(str(root), _wait_for_lock=False)) as repo,
    ):
        yield repo


def _key(root: Path) -> list[Any]:
    """Return the values that DVC's places depend on."""
    key: list[Any] = [str(root), os.environ.get("DVC_SITE_CACHE_DIR")]
    for name in ("config", "config.local", "tmp/btime"):
        try:
            key.append((root / ".dvc" / name).stat().st_mtime_ns)
        except OSError:
            key.append(None)
    return key


def _recorded_places(root: Path) -> Places | None:
    """Return DVC's places as recorded the last time; None without a record, or if it may be
    outdated."""
    try:
        record = json.loads((root / state_dir.DVC_PLACES).read_text(encoding="utf-8"))
        cache, site = record["places"]
        return Places(Path(cache), Path(site)) if record["key"] == _key(root) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


# --- .dvc/tmp/rwlock


def _rwlock_problems(root: Path) -> list[Repair]:
    path = root / ".dvc" / "tmp" / "rwlock"
    entries = _rwlock(path)
    if entries is None:
        return [lambda: _remove_rwlock(path)]
    ended = {pid for pid in _pids(entries) if _is_reused(pid, path)}
    return [lambda: _remove_entries(path, ended)] if ended else []


def _rwlock(path: Path) -> dict[str, dict[str, Any]] | None:
    """Return DVC's list of files in use, by `read` and `write`; None if it is damaged."""
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
    # `type`: True is an int too, but no process number.
    return (
        content if all(type(pid) is int and 0 < pid < 1 << 31 for pid in _pids(content)) else None
    )


def _pids(entries: Mapping[str, Mapping[str, Any]]) -> list[Any]:
    """Return the number of each process in the list; None for an entry without one."""
    return [
        info.get("pid")
        for part in entries.values()
        for entry in part.values()
        for info in _infos(entry)
    ]


def _infos(entry: Any) -> list[dict[str, Any]]:
    """Return the processes that use a file: DVC writes a list of readers, or a single writer."""
    infos = entry if isinstance(entry, list) else [entry]
    return [info for info in infos if isinstance(info, dict)]


def _is_reused(pid: int, rwlock: Path) -> bool:
    """Return whether a process of this number started after the list was written.

    DVC would wait for the wrong process."""
    try:
        return bool(psutil.Process(pid).create_time() > rwlock.stat().st_mtime + _CLOCK_SECONDS)
    except (psutil.Error, OSError):
        return False  # ended, which DVC detects itself


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _remove_rwlock(path: Path) -> str:
    _remove(path)
    return f".dvc/tmp/{path.name}: removed, as it was half written and no dvc could start"


def _remove_entries(path: Path, ended: set[int]) -> str:
    remaining: dict[str, dict[str, Any]] = {}
    for kind, part in (_rwlock(path) or {}).items():
        for name, entry in part.items():
            infos = [info for info in _infos(entry) if info.get("pid") not in ended]
            if infos:
                remaining.setdefault(kind, {})[name] = (
                    infos if isinstance(entry, list) else infos[0]
                )
    write_file(path, json.dumps(remaining).encode())
    return (
        f".dvc/tmp/{path.name}: removed entries of processes that have ended "
        f"({', '.join(map(str, sorted(ended)))})"
    )


# --- DVC's run cache and databases


def _run_cache_problems(places: Places) -> list[Repair]:
    problems = []
    for folder in (places.cache / "runs").glob("*/*"):
        with suppress(OSError):
            entries = (file for file in folder.iterdir() if _RUN.fullmatch(file.name))
            if folder.is_dir() and not any(file.stat().st_size for file in entries):
                problems.append(folder)
    return [lambda: _remove_runs(problems)] if problems else []


def _remove_runs(folders: Sequence[Path]) -> str:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    names = ", ".join(folder.name[:8] for folder in folders[:3])
    return f".dvc/cache/runs: removed {len(folders)} folders without an entry ({names})"


def _database_problems(places: Places) -> list[Repair]:
    damaged = [
        file for name in _DATABASES if (reason := _damage(file := places.site / name)) if reason
    ]
    return [lambda: _remove_databases(damaged)] if damaged else []


def _damage(file: Path) -> str:
    """Return the reason why SQLite cannot use the file; "" if it can, or if that is uncertain."""
    if not file.exists():
        return ""
    if not file.is_file():
        return "no file"
    try:
        with closing(sqlite3.connect(file, timeout=1.0)) as database:
            [result] = database.execute("PRAGMA quick_check(1)").fetchone()
        return "" if result == "ok" else str(result)
    except sqlite3.DatabaseError as error:  # also "database is locked", which is no damage
        return str(error) if any(word in str(error) for word in _DAMAGE_MESSAGES) else ""


def _remove_databases(files: Iterable[Path]) -> str:
    for file in files:
        for part in file.parent.glob(f"{file.name}*"):  # -wal and -shm too
            _remove(part)
    return (
        f"DVC's database of hashes: removed, as it was damaged ({', '.join(map(str, files))}); "
        "outputs are hashed again, once"
    )
