"""The user's mistakes: one line that says what, where and what to do, exit status 2, never a traceback.

Raise `UserError` (usually made by `refuse`) for anything a user can mend; use `assert` for our own mistakes.
"""

import errno
import sys
from collections.abc import Callable
from typing import Any


class UserError(ValueError):
    """A mistake of the user's, told in one line."""


def refuse(key: str, got: Any, expected: str, todo: str = "") -> UserError:
    """`<key>: got <value>; expected <condition>. <what to do>` as an error to raise.

    `key` is a dotted key of `params.yaml`, or a file's path.
    """
    line = f"{key}: got {got if isinstance(got, str) else repr(got)}; expected {expected}."
    return UserError(f"{line} {todo}".rstrip())


def exit_with(main: Callable[[], None]) -> None:
    """Run a command's `main` and leave with 0, or with one line on stderr and status 2 for a user's mistake."""
    try:
        main()
    except UserError as error:
        print(f"seqline: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        where = error.filename or "a file"
        print(f"seqline: {where}: got a full disk; expected room to write. Free some space and run again.", file=sys.stderr)
        sys.exit(2)
