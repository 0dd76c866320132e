"""Outputs of any commit by their md5, copied out of DVC's cache or remotes without a checkout."""

import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.core.atomic import atomic_dir, atomic_file
from pipeline.core.errors import UserError, describe_error, refuse
from pipeline.core.locks import file_lock

_FOLDER = ".dir"  # ends the md5 of a folder, whose object is the list of its files
_MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?", re.ASCII)
_MEND = "Mend DVC's cache or remote."


def check_md5(md5: Any, where: str) -> str:
    """Return an md5 of DVC's, which becomes part of paths; UserError, which names its origin
    `where`, for anything else."""
    if not isinstance(md5, str) or not _MD5.fullmatch(md5):
        raise refuse(where, md5, "an md5 of DVC's: 32 hexadecimal digits, and .dir for a folder")
    return md5


def check_inside(path: Any, where: str) -> str:
    """Return a relative path in a folder; UserError, which names its origin `where`, for one that
    could lead out of it."""
    if not isinstance(path, str) or not _leads_inside(path):
        raise refuse(where, path, "a path inside of its folder")
    return path


def _leads_inside(path: str) -> bool:
    parts = path.split("/")
    return bool(path) and "\0" not in path and "\\" not in path and not {"", ".", ".."} & set(parts)


def materialize(root: Path, md5: str, place: Path) -> None:
    """Lay an output of DVC at `place`: a file, or for an md5 that ends in `.dir` a folder, as a
    copy that nothing changes.

    It comes out of the cache of the project `root`, else out of its remotes. Contents are checked
    against their md5s: a damaged object is removed from the cache, and a damaged `place` is
    replaced; an intact one stays. UserError if the output is in none of them, or if `md5`, or one
    in the list of the folder's files, is not valid."""
    check_md5(md5, "the md5 of an output")
    place.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(place.parent / f".{place.name}.wanted.lock"):
        if place.exists() and md5_of(place) == md5:
            return
        if md5.endswith(_FOLDER):
            with atomic_dir(place) as beside:
                _lay_out(root, md5, beside)
        else:
            with atomic_file(place) as beside:
                [found] = _fetched(root, [md5])
                shutil.copyfile(found, beside)


def md5_of(path: Path) -> str:
    """Compute DVC's md5 of a file, or of a folder, whose md5 is that of the list of its files."""
    if path.is_dir():
        files = {
            file.relative_to(path).as_posix(): file for file in path.rglob("*") if file.is_file()
        }
        listing = [{"md5": md5_of(files[name]), "relpath": name} for name in sorted(files)]
        return hashlib.md5(json.dumps(listing, sort_keys=True).encode()).hexdigest() + _FOLDER

    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "md5").hexdigest()


def _lay_out(root: Path, md5: str, folder: Path) -> None:
    [listing] = _fetched(root, [md5])
    files = _listed(listing, md5)
    for name, file in zip(files, _fetched(root, list(files.values())), strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, folder / name)


def _listed(listing: Path, md5: str) -> dict[str, str]:
    """Read the md5s of a folder's files by their paths; UserError for a damaged list, and for one
    that leads out of it."""
    where = f"DVC's list {md5}"
    try:
        entries = json.loads(listing.read_text(encoding="utf-8"))
        files = [(entry["relpath"], entry["md5"]) for entry in entries]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise refuse(
            where, "damaged content", "the paths and md5s of a folder's files", _MEND
        ) from None

    md5s = {check_inside(path, where): check_md5(each, where) for path, each in files}
    folders = {str(parent) for path in md5s for parent in PurePosixPath(path).parents}
    if len(md5s) < len(files) or folders & set(md5s):
        raise refuse(where, "two files of one path", "one file a path", _MEND)
    return md5s


def _fetched(root: Path, md5s: list[str]) -> list[Path]:
    """Paths of the objects in the cache; those that it lacks taken from the first remote that has
    them."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(root)) as repo:
            cache = repo.cache.local
            for md5 in set(md5s):
                _drop_damaged(Path(cache.oid_to_path(md5)), md5)
            missing = [md5 for md5 in md5s if not cache.exists(md5)]
            for remote in _remotes(repo) if missing else ():
                there = [md5 for md5 in missing if remote.exists(md5)]
                cache.add([remote.oid_to_path(md5) for md5 in there], remote.fs, there, verify=True)
                missing = [md5 for md5 in missing if not cache.exists(md5)]
            if missing:
                raise _nowhere(root, missing[0], repo.config["remote"])
            return [Path(cache.oid_to_path(md5)) for md5 in md5s]
    except (DvcException, OSError) as error:
        raise _broken(root, error) from None


def _drop_damaged(file: Path, md5: str) -> None:
    """Remove an object of the cache whose content is not of its md5, which DVC would trust."""
    if file.is_file() and md5_of(file) != md5.removesuffix(_FOLDER):
        file.unlink()


def _remotes(repo: Any) -> Iterator[Any]:
    """The object stores of the project's remotes, the default one first."""
    default = repo.config["core"].get("remote")
    for name in sorted(repo.config["remote"], key=lambda name: (name != default, name)):
        yield repo.cloud.get_remote_odb(name, "pull")


def _nowhere(root: Path, md5: str, remotes: Mapping[str, Any]) -> UserError:
    where = (
        f"DVC's cache or its remotes ({', '.join(remotes)})"
        if remotes
        else "DVC's cache, there being no remote"
    )
    todo = "Name a remote that has it (`dvc remote add`), or `dvc push` it where it was made."
    return refuse(md5, f"no such output of {root.name}", f"one in {where}", todo)


def _broken(root: Path, error: Exception) -> UserError:
    return refuse(
        str(root), describe_error(error)[:200], "a DVC cache and remotes that can be read"
    )
