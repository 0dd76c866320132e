"""`source: {path: ...}`: the user's own file or folder, copied in as it is; a zip, or a gzip of one
file, is unpacked."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from pipeline.core.errors import UserError, name_file_in_errors, refuse
from pipeline.download import unpack
from pipeline.download.wanted import MANIFEST

_CHUNK = 1 << 20
_REASONS = {  # plain words for errors whose system message is unclear
    errno.ELOOP: "a link that leads back to itself",
    errno.EACCES: "no permission to read it",
    errno.EPERM: "no permission to read it",
    errno.ENXIO: "a socket",
}


def copy(path: str, where: str, into: Path) -> list[str]:
    """Copy the file, every file of the folder or all that the archive holds into `into`; return
    their relative names.

    A link is copied as its target, if that lies in the folder too. UserError for a missing or empty
    path, links that lead out or in circles, files that cannot be read or that change meanwhile, and
    anything that is neither file nor folder."""
    root = _resolved(path, where)
    if root in [into.resolve(), *into.resolve().parents] and root.is_dir():
        raise refuse(
            where,
            path,
            "a folder that does not hold the pipeline's own data",
            "Name a folder of its own.",
        )

    names = []
    for name, pieces in contents(path, where):
        target = into / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            for chunk in pieces:
                with name_file_in_errors(target):
                    file.write(chunk)
        names.append(name)
    return names


def contents(path: str, where: str) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Relative name and chunks of each file that `copy` writes; the chunks are read before the next
    name. Errors as `copy`."""
    pairs = files(path, where)
    if len(pairs) > 1 or not os.path.isfile(path):
        yield from ((name, chunks(source, name, where)) for source, name in pairs)
        return

    source, name = pairs[0]
    with _open(source, name, where) as file:
        if not unpack.is_packed(file):
            yield name, chunks(source, name, where)
            return
        empty = True
        for member, pieces in unpack.contents(file, name, where):
            _check_name(member, where)
            yield member, pieces
            empty = False
    if empty:
        raise refuse(where, f"{path}, which holds no file", "an archive with files")


def files(path: str, where: str) -> list[tuple[Path, str]]:
    """Paths of the file, or of every file of the folder in the order of names, each with the
    relative name of its copy. Errors as `copy`."""
    root = _resolved(path, where)
    pairs = [(root, root.name)] if root.is_file() else sorted(_within(root, where))
    if not pairs:
        raise refuse(where, f"{path}, which holds no file", "a folder with files")

    for _, name in pairs:
        _check_name(name, where)
    return pairs


def chunks(source: Path, name: str, where: str) -> Iterator[bytes]:
    """Read the regular file `source` in chunks; UserError if it changes while it is read."""
    with _open(source, name, where) as file:
        before = os.fstat(file.fileno())
        remaining = before.st_size + 1  # one more: stop at once if the file grows without end
        while remaining > 0:
            with _refusing(name, where):
                chunk = file.read(min(_CHUNK, remaining))
            if not chunk:
                break
            remaining -= len(chunk)
            yield chunk

        after = os.fstat(file.fileno())
        unchanged = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
        if remaining != 1 or not unchanged:
            raise refuse(
                where,
                f"{name}, which changed while it was read",
                "files at rest",
                "Run again when it is written.",
            )


def _open(source: Path, name: str, where: str) -> FileIO:
    """Open the regular file `source`.

    It may have become a pipe or a link since it was listed: never wait for a pipe, never follow a
    link."""
    with _refusing(name, where):
        descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    file = FileIO(descriptor)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        file.close()
        raise _irregular(name, where)
    return file


def _check_name(name: str, where: str) -> None:
    """Refuse the name of a file that the pipeline writes, and one that is not UTF-8."""
    if name == MANIFEST:
        expected = "any other name, since the pipeline writes a file of that name"
        raise refuse(where, f"a file {MANIFEST}", expected)
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        raise refuse(
            where, name, "a name that is UTF-8, as DVC needs it", "Rename the file."
        ) from None


def _resolved(path: str, where: str) -> Path:
    """Resolve the path of a file or folder."""
    try:
        root = Path(path).resolve(strict=True)
        mode = root.stat().st_mode
    except FileNotFoundError:
        raise refuse(
            where,
            path,
            "a file or folder, seen from the project's root",
            "Put it there, or correct the path.",
        ) from None
    # pathlib raises it for a link that leads back to itself.
    except RuntimeError:
        raise _unreadable(path, where, OSError(errno.ELOOP, "")) from None
    except OSError as error:
        raise _unreadable(path, where, error) from None
    except ValueError:
        raise refuse(where, path, "a path without zero bytes", "Correct the path.") from None

    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise _irregular(path, where)
    return root


def _within(root: Path, where: str) -> Iterator[tuple[Path, str]]:
    """Iterate over the regular files under the folder, with their relative names.

    A folder that cannot be listed is refused, since its files would be missing."""
    folders = [root]
    while folders:
        folder = folders.pop()
        with _refusing(folder.relative_to(root).as_posix(), where):
            entries = sorted(folder.iterdir())
        for path in entries:
            name = path.relative_to(root).as_posix()
            if path.is_symlink():
                yield _link_target(path, name, root, where), name
                continue

            with _refusing(name, where):
                mode = path.stat().st_mode
            if stat.S_ISDIR(mode):
                folders.append(path)
            elif stat.S_ISREG(mode):
                yield path, name
            else:
                raise _irregular(name, where)


def _link_target(path: Path, name: str, root: Path, where: str) -> Path:
    """Resolve a link to a regular file in the same folder."""
    try:
        target = path.resolve(strict=True)
    except FileNotFoundError:
        raise refuse(
            where, f"the link {name}, which leads nowhere", "files", "Put a copy in its place."
        ) from None
    except RuntimeError:
        raise _unreadable(name, where, OSError(errno.ELOOP, "")) from None
    except OSError as error:
        raise _unreadable(name, where, error) from None

    if not target.is_relative_to(root):
        raise refuse(
            where,
            f"the link {name}, which leads out of the folder",
            "files",
            "Put a copy in its place.",
        )
    if not target.is_file():
        raise _irregular(name, where)
    return target


@contextmanager
def _refusing(name: str, where: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _unreadable(name, where, error) from None


def _unreadable(name: str, where: str, error: OSError) -> UserError:
    reason = _REASONS.get(error.errno or 0, error.strerror)
    return refuse(
        where,
        f"{name[:200]}, which cannot be read ({reason})",
        "files that can be read",
        "Fix it, or move it away.",
    )


def _irregular(name: str, where: str) -> UserError:
    return refuse(
        where, f"{name}, which is no regular file", "regular files and folders", "Move it away."
    )
