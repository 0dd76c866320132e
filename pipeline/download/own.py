"""`source: {path: ...}`: the user's own file or folder, copied in as it is."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from pipeline.download.wanted import MANIFEST
from pipeline.errors import refuse


def copy(path: str, where: str, into: Path) -> list[str]:
    """Copy the file, or every file of the folder, into `into` under the same relative names, which are returned.

    A link is copied as the file that it leads to, if that lies in the folder too. UserError for a missing or empty path,
    links that lead out, and anything that is neither file nor folder.
    """
    root = Path(path).resolve()
    if root in [into.resolve(), *into.resolve().parents] and root.is_dir():
        raise refuse(where, path, "a folder that does not hold the pipeline's own data", "Name a folder of its own.")
    pairs = files(path, where)
    for source, name in pairs:
        target = into / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    return [name for _, name in pairs]


def files(path: str, where: str) -> list[tuple[Path, str]]:
    """The file, or every file of the folder by its name, with the name that its copy has; the same errors."""
    root = Path(path)
    if not root.exists():
        raise refuse(where, path, "a file or folder, seen from the project's root", "Put it there, or mend the path.")
    root = root.resolve()
    pairs = [(root, root.name)] if root.is_file() else list(_within(root, where))
    if not pairs:
        raise refuse(where, f"{path}, which holds no file", "a folder with files")
    if MANIFEST in (name for _, name in pairs):
        raise refuse(where, f"a file {MANIFEST}", "any other name, since the pipeline writes a file of that name")
    return pairs


def _within(root: Path, where: str) -> Iterator[tuple[Path, str]]:
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_symlink() and not path.resolve().is_relative_to(root):
            raise refuse(where, f"the link {name}, which leads out of the folder", "files", "Put a copy in its place.")
        if path.is_file():
            yield path.resolve(), name
        elif not path.is_dir() or path.is_symlink():
            raise refuse(where, f"{name}, which is no regular file", "regular files and folders", "Move it away.")
