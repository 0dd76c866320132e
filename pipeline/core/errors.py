"""Errors for the user: one line with the place, the problem and the remedy, and exit status 2,
without a traceback.

Raise `UserError` (usually built by `refuse`) for anything that a user can correct; use `assert` for
mistakes in this code."""

import codecs
import errno
import json
import os
import re
import resource
import select
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

# The part after "got" of the line for an OSError, by its number.
_FULL = "a full disk; expected room to write. Free some space and run again."
_CLOSED = (
    "no permission; expected a place to read and write. Fix its permissions or name another place."
)
_NO_FOLDER = (
    "a file where a folder is needed; expected a folder. Move the file away or name another place."
)
_DISK = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: (
        "a file beyond the size allowed; expected room to write. See `ulimit -f`, or "
        "name a place on another disk."
    ),
    errno.EACCES: _CLOSED,
    errno.EPERM: _CLOSED,
    errno.EROFS: "a read-only disk; expected a place to write. Name another place.",
    errno.EISDIR: (
        "a folder where a file is needed; expected a file. Move the folder away or "
        "name another place."
    ),
    errno.ENOTDIR: _NO_FOLDER,
    errno.EEXIST: _NO_FOLDER,
}

_SIGPIPE_STATUS = 128 + signal.SIGPIPE  # as a shell reports a process that SIGPIPE ended

_MEMORY = (
    "out of memory ({}). Make batches or the model smaller (objective.batch_tokens, "
    "objective.batch_size, model), "
    "raise `ulimit -v`, or use a machine with more memory."
)
_FILES = (
    "out of file descriptors ({}). Raise the limit on open files, as with `ulimit -n "
    "1024`, and run again."
)
_THREADS = (
    "out of processes and threads ({}). Raise `ulimit -u` or `ulimit -v`, or end other "
    "programs, and run again."
)
_MIN_FILES = 64
_EXHAUSTED = {
    errno.ENOMEM: _MEMORY,
    errno.EMFILE: _FILES,
    errno.ENFILE: _FILES,
    errno.EAGAIN: _THREADS,
}
# Libraries have no types for these: torch, oneDNN, Arrow, the dynamic loader and `threading` raise
# errors of many kinds.
_EXHAUSTED_TEXTS = {
    re.compile(r"too many open files", re.IGNORECASE): _FILES,
    re.compile(r"can't start new thread|Resource temporarily unavailable"): _THREADS,
    re.compile(
        r"(?:can't|cannot|could not|unable to) (?:allocate|create a (?:memory|primitive))|out "
        r"of memory|std::bad_alloc"
        r"|failed to map segment|cannot apply additional memory protection|os error 12\b"
        # the interpreter itself had no room for an error
        r"|without (?:setting an )?exception(?: set)?$",
        re.IGNORECASE,
    ): _MEMORY,
}

# Matches from "://" on: a pattern with the scheme would take time quadratic in a word's length.
_ADDRESS = re.compile(r"(?<=[\w+.-])://\S+")
# `user:password@`, where some servers allow a / in the password. A port before a / is no password.
_USER = re.compile(r"(?![^/@]*:\d+(?:[/?#]|$))[^/@:]*:[^@]*@|[^/@]*@")

# Control characters (terminals execute escape sequences), line and paragraph separators, marks that
# change the direction of writing, and lone surrogates (bytes that are no UTF-8), which many streams
# cannot print.
_UNSAFE = re.compile(
    "[\\x00-\\x1f\\x7f-\\x9f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069\\ufeff\\ud800-\\udfff]"
)


class UserError(ValueError):
    """A mistake of the user, described in one line that is safe to print; or several of a block, in
    a line each."""

    def __init__(self, *lines: str) -> None:
        super().__init__(*map(printable, lines))

    def __str__(self) -> str:
        return "\n".join(self.args)

    @property
    def lines(self) -> tuple[str, ...]:
        """The lines, one for each mistake."""
        return self.args


def refuse(key: str, got: Any, expected: str, todo: str = "") -> UserError:
    """Return the error `<key>: got <value>; expected <condition>. <what to do>`, to be raised.

    `key` is a dotted key of `params.yaml`, or a file's path.
    """
    line = f"{key}: got {got if isinstance(got, str) else repr(got)}; expected {expected}."
    return UserError(f"{line} {todo}".rstrip())


def printable(text: str) -> str:
    """Escape characters that control a terminal or break a line, such as `\\x1b`.

    Text from outside (a server's status line, a file's name, a value of params.yaml) may have them.
    """
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}  # the longer ones first: the mark of UTF-16 begins that of UTF-32


def not_utf8(where: str, block: bytes, offset: int = 0, line: int = 1) -> UserError | None:
    """Return an error if a block of the file `where` is not UTF-8 text; else None.

    The block begins at the byte `offset`, in line `line`. UTF-16 of Latin letters is valid UTF-8
    with a NUL byte in every other place, so that NUL bytes are refused as well."""
    # 1. A byte order mark of another encoding.
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if offset == 0 and block.startswith(mark):
            todo = f"Convert the file: iconv -f {encoding} -t UTF-8."
            return refuse(
                where, f"byte 0x{mark[0]:02x} at offset 0: the mark of {encoding}", "UTF-8", todo
            )

    # 2. The first byte that is NUL or invalid.
    try:
        block.decode("utf-8")
        place = block.find(b"\0")
    except UnicodeDecodeError as error:
        nul = block.find(b"\0", 0, error.start)
        place = error.start if nul < 0 else nul
    if place < 0:
        return None

    # 3. Its position, and the encoding that the zero bytes suggest.
    problem = (
        f"byte 0x{block[place]:02x} at offset {offset + place}, line "
        f"{line + block.count(bytes([10]), 0, place)}"
    )
    if block[place]:
        return refuse(where, problem, "UTF-8", "Convert the file, for example with iconv.")
    if name := _utf16_or_32(block[:4096], offset):
        return refuse(
            where, f"{problem}: {name}", "UTF-8", f"Convert the file: iconv -f {name} -t UTF-8."
        )
    todo = (
        "Convert the file with iconv if it is UTF-16; remove stray NUL bytes with: tr -d '\\000'."
    )
    return refuse(where, problem, "UTF-8 text without NUL bytes", todo)


def _utf16_or_32(block: bytes, offset: int) -> str | None:
    """Guess the encoding from the positions, modulo 4, at which many bytes are zero; None if no
    encoding fits."""
    # Column i has the bytes whose position in the file is i modulo 4.
    columns = [block[(place - offset) % 4 :: 4] for place in range(4)]
    layout = "".join(
        "0" if column.count(0) > 0.4 * max(len(column), 1) else "x" for column in columns
    )
    return {"x000": "UTF-32LE", "000x": "UTF-32BE", "x0x0": "UTF-16LE", "0x0x": "UTF-16BE"}.get(
        layout
    )


def redact(address: str) -> str:
    """Remove user, password and query from an address: they can hold secrets."""
    scheme, apart, rest = address.partition("://")
    start = 0
    while user := _USER.match(rest, start):
        start = user.end()
    place = rest[start:]
    return scheme + apart + (re.split("[?#]", place)[0] if apart else place)


def describe_error(error: BaseException) -> str:
    """The message of a library's error in one line, with every address in it redacted."""
    return printable(_ADDRESS.sub(lambda match: redact(match[0]), " ".join(str(error).split())))


@contextmanager
def name_file_in_errors(path: Path) -> Iterator[None]:
    """Let OSErrors in the block that name no file, as those of a write, name `path`."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def at_least_one(**sizes: int) -> None:
    """Raise UserError for the first size below 1; for the `__post_init__` of a Config."""
    for key, size in sizes.items():
        if size < 1:
            raise refuse(key, size, "at least 1")


def share(**shares: float) -> None:
    """Raise UserError for the first value outside [0, 1); for the `__post_init__` of a Config."""
    for key, value in shares.items():
        if not 0 <= value < 1:
            raise refuse(key, value, "a share from 0 to below 1")


def reader_closed(stream: TextIO) -> bool:
    """Return whether the reader of the stream has closed it, as `head` does.

    If so, later output to it is silently discarded."""
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):  # not a file, as in tests
        return False
    with suppress(BrokenPipeError):
        stream.flush()

    # POLLERR is the state of a pipe, POLLHUP that of a terminal, whose other end is closed.
    poll = select.poll()
    poll.register(descriptor, 0)
    closed = any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    if closed:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, descriptor)
        os.close(null)
    return closed


def refuse_few_descriptors() -> None:
    """Raise UserError for a limit on open files so low that libraries fail with misleading
    errors."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= limit < _MIN_FILES:
        raise refuse(
            "ulimit -n", limit, f"at least {_MIN_FILES} open files", "Run `ulimit -n 1024` first."
        )


def exhausted(error: BaseException) -> str | None:
    """Return a line for an error caused by too little memory, or too few descriptors or threads;
    else None.

    The causes of this error count too, since libraries wrap them. EAGAIN is also the error of a
    lock that is taken: after `raise ... from None` it was handled, and does not count.
    """
    for cause, suppressed in _causes(error):
        if suppressed and isinstance(cause, OSError) and cause.errno == errno.EAGAIN:
            continue

        text = " ".join(str(cause).split())[:200]
        if isinstance(cause, MemoryError):
            return _MEMORY.format(text or "an allocation failed")
        if isinstance(cause, OSError) and cause.errno in _EXHAUSTED:
            return _EXHAUSTED[cause.errno].format(describe_error(cause))
        if not isinstance(cause, UserError):
            for pattern, line in _EXHAUSTED_TEXTS.items():
                if pattern.search(text):
                    return line.format(describe_error(cause)[:200])
    return None


def _causes(error: BaseException) -> Iterator[tuple[BaseException, bool]]:
    """Yield the error and its causes, each with whether a `raise ... from None` has handled it."""
    cause: BaseException | None = error
    visited: set[int] = set()
    suppressed = False
    while cause is not None and id(cause) not in visited:
        yield cause, suppressed
        visited.add(id(cause))
        suppressed = suppressed or (cause.__suppress_context__ and cause.__cause__ is None)
        cause = cause.__cause__ or cause.__context__


def give_up_if_exhausted(error: BaseException) -> None:
    """Exit with one line and status 2 if memory, descriptors or threads ran out; return for any
    other error.

    Without memory the interpreter's cleanup fails with tracebacks, so `os._exit` skips it.
    """
    line = exhausted(error)
    if line is None:
        return

    error.__traceback__ = None  # frees the local variables of the failed functions
    print(f"seqline: {printable(line)}", file=sys.stderr, flush=True)
    if not line.startswith(_MEMORY.partition("{")[0]):
        sys.exit(2)

    # Out of memory: exit without cleanup.
    with suppress(OSError):
        sys.stdout.flush()
    os._exit(2)


def uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """`sys.excepthook` of the stages, for errors in imports, before `exit_with` is called."""
    give_up_if_exhausted(error)
    sys.__excepthook__(kind, error, trace)


def read_json(path: Path, expected: str, todo: str) -> dict[str, Any]:
    """Read a mapping that a stage wrote to a JSON file; UserError if it is absent or damaged."""
    content = read_json_value(path, expected, todo)
    if not isinstance(content, dict):
        raise refuse(str(path), type(content).__name__, f"{expected}: a mapping", todo)
    return content


def read_json_value(path: Path, expected: str, todo: str) -> Any:
    """Read a value of any type from a JSON file; UserError if it is absent or no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise refuse(str(path), "no such file", expected, todo) from None
    except IsADirectoryError:
        raise refuse(str(path), "a folder", expected, todo) from None
    except (ValueError, RecursionError) as error:  # not UTF-8, or no JSON
        raise refuse(str(path), describe_error(error), expected, todo) from None


def exit_with(main: Callable[[], None]) -> None:
    """Run a command's `main`; for a UserError, print one line on stderr and exit with status 2.

    A command whose reader closes stdout exits as if by SIGPIPE.
    """
    try:
        refuse_few_descriptors()
        main()
        closed = reader_closed(sys.stdout)
    except UserError as error:
        give_up_if_exhausted(error)
        for line in error.lines:
            print(f"seqline: {line}", file=sys.stderr)
        reader_closed(sys.stdout)
        sys.exit(2)
    except OSError as error:
        if isinstance(error, BrokenPipeError) and reader_closed(sys.stdout):
            sys.exit(_SIGPIPE_STATUS)
        give_up_if_exhausted(error)
        if error.errno not in _DISK:
            raise
        where = error.filename2 or error.filename or "a file"  # of a copy, the target
        print(f"seqline: {printable(str(where))}: got {_DISK[error.errno]}", file=sys.stderr)
        sys.exit(2)
    except SystemExit as end:
        if reader_closed(sys.stdout) and not end.code:
            sys.exit(_SIGPIPE_STATUS)
        raise
    except Exception as error:
        # Libraries raise errors of many types for too little memory and too many files.
        give_up_if_exhausted(error)
        raise
    if closed:
        sys.exit(_SIGPIPE_STATUS)
