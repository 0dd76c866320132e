"""The user's mistakes: one line that says what, where and what to do, exit status 2, never a traceback.

Raise `UserError` (usually made by `refuse`) for anything a user can mend; use `assert` for our own mistakes.
"""

import errno
import sys
from collections.abc import Callable
from typing import Any

_FULL = "a full disk; expected room to write. Free some space and run again."
_CLOSED = "no permission; expected a place to read and write. Mend its permissions or name another place."
_NO_FOLDER = "a file where a folder is needed; expected a folder. Move the file away or name another place."
_DISK = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EACCES: _CLOSED,
    errno.EPERM: _CLOSED,
    errno.EROFS: "a read-only disk; expected a place to write. Name another place.",
    errno.ENOTDIR: _NO_FOLDER,
    errno.EEXIST: _NO_FOLDER,
}


class UserError(ValueError):
    """A mistake of the user's, told in one line."""


def refuse(key: str, got: Any, expected: str, todo: str = "") -> UserError:
    """`<key>: got <value>; expected <condition>. <what to do>` as an error to raise.

    `key` is a dotted key of `params.yaml`, or a file's path.
    """
    line = f"{key}: got {got if isinstance(got, str) else repr(got)}; expected {expected}."
    return UserError(f"{line} {todo}".rstrip())


def at_least_one(**sizes: int) -> None:
    """For the `__post_init__` of a Config: UserError for the first size below 1."""
    for key, size in sizes.items():
        if size < 1:
            raise refuse(key, size, "at least 1")


def share(**shares: float) -> None:
    """For the `__post_init__` of a Config: UserError for the first that is no share from 0 to below 1."""
    for key, value in shares.items():
        if not 0 <= value < 1:
            raise refuse(key, value, "a share from 0 to below 1")


def exit_with(main: Callable[[], None]) -> None:
    """Run a command's `main` and leave with 0, or with one line on stderr and status 2 for a user's mistake."""
    try:
        main()
    except UserError as error:
        print(f"seqline: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.errno not in _DISK:
            raise
        where, told = error.filename or "a file", _DISK[error.errno]
        print(f"seqline: {where}: got {told}", file=sys.stderr)
        sys.exit(2)
