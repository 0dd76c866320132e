"""Copies of outputs of any commit, by their md5, from DVC's cache or remotes without a checkout."""

import hashlib
import json
import re
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.core import state_dir
from pipeline.core.atomic import atomic_dir, atomic_file
from pipeline.core.digest import file_digest
from pipeline.core.errors import describe_error, refuse
from pipeline.core.locks import file_lock

_FOLDER = ".dir"  # ends the md5 of a folder, whose object is the list of its files
_MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?", re.ASCII)
_TODO = "Fix DVC's cache or remote."


def check_md5(md5: Any, where: str) -> str:
    """Return `md5` if it is one of DVC's, which becomes part of paths; else UserError about
    `where`."""
    if not isinstance(md5, str) or not _MD5.fullmatch(md5):
        raise refuse(where, md5, "an md5 of DVC's: 32 hexadecimal digits, and .dir for a folder")
    return md5


def check_inside(path: Any, where: str) -> str:
    """Return `path` if it stays inside its folder; else UserError about `where`."""
    if (
        not isinstance(path, str)
        or "\0" in path
        or "\\" in path
        or {"", ".", ".."} & set(path.split("/"))
    ):
        raise refuse(where, path, "a path inside of its folder")
    return path


def materialize(root: Path, md5: str, place: Path) -> None:
    """Copy an output of DVC to `place`: a file, or a folder for an md5 that ends in `.dir`.

    It is copied from the cache of the project `root`; what the cache lacks is first fetched from a
    remote. Contents are checked
    against their md5s: a damaged object is removed from the cache, and a damaged `place` is
    replaced. An intact `place` stays. UserError if the output is in none of them, or if `md5`, or
    one in the list of the folder's files, is not valid."""
    check_md5(md5, "the md5 of an output")
    place.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(place.parent / f".{place.name}.wanted.lock"):
        if place.exists() and md5_of(place) == md5:
            return

        if not md5.endswith(_FOLDER):
            with atomic_file(place) as partial:
                [cached] = _fetch_objects(root, [md5])
                shutil.copyfile(cached, partial)
            return
        with atomic_dir(place) as folder:
            [listing] = _fetch_objects(root, [md5])
            md5s = _read_listing(listing, md5)
            objects = _fetch_objects(root, list(md5s.values()))
            for path, cached in zip(md5s, objects, strict=True):
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(cached, folder / path)


def copy_cached(root: Path, md5: str, place: Path, names: Collection[str]) -> None:
    """Copy an output from the cache alone: a file to `place`, or to the folder `place` those files
    of a folder that have one of the `names`.

    For views of other commits, which ask no remote. UserError if the cache lacks one, or if `md5`
    is not valid."""
    check_md5(md5, "the md5 of an output")
    files = {"": md5}
    if md5.endswith(_FOLDER):
        [listing] = _fetch_objects(root, [md5], remotes=False)
        listed = _read_listing(listing, md5)
        files = {path: listed[path] for path in names if path in listed}
    objects = _fetch_objects(root, list(files.values()), remotes=False)
    for path, cached in zip(files, objects, strict=True):
        target = place / path if path else place
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(cached, target)


def served_folder(root: Path, md5: str) -> Path:
    """The copy of an output that served versions with this md5 share, made if need be; errors as
    `materialize`."""
    folder = root / state_dir.SERVED / check_md5(md5, "the version's reference")
    materialize(root, md5, folder)
    return folder


def md5_of(path: Path) -> str:
    """Compute DVC's md5 of a file, or of a folder, whose md5 is that of the list of its files."""
    if not path.is_dir():
        return file_digest(path, "md5")
    files = [file for file in path.rglob("*") if file.is_file()]
    md5s = {file.relative_to(path).as_posix(): file_digest(file, "md5") for file in files}
    return hashlib.md5(folder_listing(md5s)).hexdigest() + _FOLDER


def folder_listing(md5s: Mapping[str, str]) -> bytes:
    """Serialize the md5s of a folder's files by relative path, as DVC does in a `.dir` object.

    DVC hashes these bytes, so they must be the same: sorted by path, keys sorted, JSON's default
    separators (dvc_data.hashfile.tree.Tree.as_bytes).
    """
    entries = [{"md5": md5s[path], "relpath": path} for path in sorted(md5s)]
    return json.dumps(entries, sort_keys=True).encode()


def _read_listing(listing: Path, md5: str) -> dict[str, str]:
    """Read the md5s of a folder's files by their paths; UserError for a damaged list, and for one
    that leads out of it."""
    where = f"DVC's list {md5}"
    try:
        entries = json.loads(listing.read_text(encoding="utf-8"))
        pairs = [(entry["relpath"], entry["md5"]) for entry in entries]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise refuse(
            where, "damaged content", "the paths and md5s of a folder's files", _TODO
        ) from None

    md5s = {check_inside(path, where): check_md5(value, where) for path, value in pairs}
    # A path given twice, or a path that is both a file and a folder of other files.
    folders = {str(parent) for path in md5s for parent in PurePosixPath(path).parents}
    if len(md5s) < len(pairs) or folders & set(md5s):
        raise refuse(where, "two files of one path", "one file a path", _TODO)
    return md5s


def _fetch_objects(root: Path, md5s: list[str], remotes: bool = True) -> list[Path]:
    """Return the paths of the objects in the cache.

    An object that the cache lacks is fetched from the first remote that has it; without `remotes`
    the cache alone counts. UserError if none has it, or if DVC cannot read the cache or a
    remote."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(root)) as repo:
            cache = repo.cache.local
            paths = {md5: Path(cache.oid_to_path(md5)) for md5 in md5s}
            for md5, path in paths.items():
                # DVC would trust a damaged object.
                if path.is_file() and md5_of(path) != md5.removesuffix(_FOLDER):
                    path.unlink()

            missing = [md5 for md5 in md5s if not cache.exists(md5)]
            # Remotes may need the network, so they are opened only for missing objects.
            default = repo.config["core"].get("remote")
            ordered = sorted(repo.config["remote"], key=lambda name: (name != default, name))
            for name in ordered if missing and remotes else ():
                remote = repo.cloud.get_remote_odb(name, "pull")
                available = [md5 for md5 in missing if remote.exists(md5)]
                sources = [remote.oid_to_path(md5) for md5 in available]
                cache.add(sources, remote.fs, available, verify=True)
                missing = [md5 for md5 in missing if not cache.exists(md5)]
            if not missing:
                return [paths[md5] for md5 in md5s]
            names = ", ".join(repo.config["remote"])
    except (DvcException, OSError) as error:
        raise refuse(
            str(root), describe_error(error)[:200], "a DVC cache and remotes that can be read"
        ) from None

    where = f" or its remotes ({names})" if names else ", as there is no remote"
    raise refuse(
        missing[0],
        f"no such output of {root.name}",
        f"one in DVC's cache{where}",
        "Name a remote that has it (`dvc remote add`), or `dvc push` it where it was made.",
    )
