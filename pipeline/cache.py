"""What DVC once stored, by its md5: an output of any commit, laid out beside the present ones without a checkout."""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.errors import UserError, refuse, told
from pipeline.landing import exclusive, landing, landing_file

_FOLDER = ".dir"  # ends the md5 of a folder, whose object is the list of its files


def materialise(root: Path, md5: str, place: Path) -> None:
    """Lay an output of DVC at `place`: a file, or for an md5 that ends in `.dir` a folder, as a copy that nothing changes.

    It comes out of the cache of the project `root`, else out of its remotes. A `place` that exists stays as it is: it is
    complete, and what an md5 names never changes. UserError if the output is in none of them.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(place.parent / f".{place.name}.wanted.lock"):
        if place.exists():
            return
        if md5.endswith(_FOLDER):
            with landing(place) as beside:
                _lay_out(root, md5, beside)
        else:
            with landing_file(place) as beside:
                [found] = _fetched(root, [md5])
                shutil.copyfile(found, beside)


def _lay_out(root: Path, md5: str, folder: Path) -> None:
    [listing] = _fetched(root, [md5])
    files = [(entry["relpath"], entry["md5"]) for entry in json.loads(listing.read_text(encoding="utf-8"))]
    for (name, _), found in zip(files, _fetched(root, [each for _, each in files]), strict=True):
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise refuse(md5, f"a file called {name}", "names inside of the folder", "Mend DVC's cache or remote.")
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(found, folder / name)


def _fetched(root: Path, md5s: list[str]) -> list[Path]:
    """Where the objects lie in the cache, those that it lacks taken from the first remote that has them."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(root)) as repo:
            cache = repo.cache.local
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


def _remotes(repo: Any) -> Iterator[Any]:
    """The object stores of the project's remotes, the default one first."""
    default = repo.config["core"].get("remote")
    for name in sorted(repo.config["remote"], key=lambda name: (name != default, name)):
        yield repo.cloud.get_remote_odb(name, "pull")


def _nowhere(root: Path, md5: str, remotes: Mapping[str, Any]) -> UserError:
    where = f"DVC's cache or its remotes ({', '.join(remotes)})" if remotes else "DVC's cache, there being no remote"
    todo = "Name a remote that has it (`dvc remote add`), or `dvc push` it where it was made."
    return refuse(md5, f"no such output of {root.name}", f"one in {where}", todo)


def _broken(root: Path, error: Exception) -> UserError:
    return refuse(str(root), told(error)[:200], "a DVC cache and remotes that can be read")
