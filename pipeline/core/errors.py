"""The user's mistakes: one line that says what, where and what to do, exit status 2, never a
traceback.

Raise `UserError` (usually made by `refuse`) for anything a user can mend; use `assert` for our own
mistakes."""

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

_FULL = "a full disk; expected room to write. Free some space and run again."
_CLOSED = (
    "no permission; expected a place to read and write. Mend its permissions or name another place."
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

_LEFT = 128 + signal.SIGPIPE

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
_LEAST_FILES = 64
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

# From behind the scheme's last letter on: a pattern of the whole scheme takes time quadratic in the
# length of a word.
_ADDRESS = re.compile(r"(?<=[\w+.-])://\S+")
# some allow a / in a password; a port is none
_USER = re.compile(r"(?![^/@]*:\d+(?:[/?#]|$))[^/@:]*:[^@]*@|[^/@]*@")

# Control characters (a terminal obeys escape sequences), line and paragraph separators, marks that
# turn the direction of writing, and lone surrogates (bytes that are no UTF-8), which many streams
# refuse to print.
_UNSAFE = re.compile(
    "[\\x00-\\x1f\\x7f-\\x9f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069\\ufeff\\ud800-\\udfff]"
)


class UserError(ValueError):
    """A mistake of the user's, told in one line that is safe to print."""

    def __init__(self, line: str = "") -> None:
        super().__init__(printable(line))


def refuse(key: str, got: Any, expected: str, todo: str = "") -> UserError:
    """`<key>: got <value>; expected <condition>. <what to do>` as an error to raise.

    `key` is a dotted key of `params.yaml`, or a file's path.
    """
    line = f"{key}: got {got if isinstance(got, str) else repr(got)}; expected {expected}."
    return UserError(f"{line} {todo}".rstrip())


def printable(text: str) -> str:
    """Escape what could steer a terminal or break a line, as `\\x1b` for an escape character.

    Text from outside (a server's status line, a file's name, a value of params.yaml) may hold it.
    """
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}  # the longer ones first: the mark of UTF-16 begins that of UTF-32


def not_utf8(where: str, block: bytes, offset: int = 0, line: int = 1) -> UserError | None:
    """Error for a block of the file `where` that is not UTF-8 text, but of another encoding or
    binary; else None.

    The block begins at the byte `offset`, in line `line`. UTF-16 of Latin letters is valid UTF-8
    with a NUL byte in every other place, so that NUL bytes are refused as well."""
    for mark, encoding in _MARKS.items():
        if offset == 0 and block.startswith(mark):
            todo = f"Convert the file: iconv -f {encoding} -t UTF-8."
            return refuse(
                where, f"byte 0x{mark[0]:02x} at offset 0: the mark of {encoding}", "UTF-8", todo
            )
    try:
        block.decode("utf-8")
        place = block.find(b"\0")
    except UnicodeDecodeError as error:
        nul = block.find(b"\0", 0, error.start)
        place = error.start if nul < 0 else nul
    if place < 0:
        return None
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
    """Name of the encoding that has its zero bytes (0, others x) where most characters of the block
    have them."""
    columns = [block[(place - offset) % 4 :: 4] for place in range(4)]  # by the place in the file
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
    """An OSError that names no file, as those of a write do not, names `path`."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def at_least_one(**sizes: int) -> None:
    """For the `__post_init__` of a Config: UserError for the first size below 1."""
    for key, size in sizes.items():
        if size < 1:
            raise refuse(key, size, "at least 1")


def share(**shares: float) -> None:
    """For the `__post_init__` of a Config: UserError for the first that is no share from 0 to below
    1."""
    for key, value in shares.items():
        if not 0 <= value < 1:
            raise refuse(key, value, "a share from 0 to below 1")


def reader_closed(stream: TextIO) -> bool:
    """Return whether the reader of the stream has closed it, as `head` does.

    If so, later output to it is silently discarded."""
    try:
        number = stream.fileno()
    except (OSError, ValueError):  # no file: a test's own
        return False
    with suppress(BrokenPipeError):
        stream.flush()
    poll = select.poll()
    poll.register(number, 0)
    left = any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    if left:
        nobody = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nobody, number)
        os.close(nobody)
    return left


def refuse_few_descriptors() -> None:
    """Refuse a limit on open files so low that libraries fail in ways that name another cause."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= limit < _LEAST_FILES:
        raise refuse(
            "ulimit -n", limit, f"at least {_LEAST_FILES} open files", "Run `ulimit -n 1024` first."
        )


def exhausted(error: BaseException) -> str | None:
    """Line for an error that means too little memory, or too few descriptors or threads; None for
    any other.

    The errors that led to this one count too, since libraries wrap them. EAGAIN is also the answer
    of a lock that is taken: after `raise ... from None` it counts no longer, since it was handled.
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
    """The error and those that led to it, each with whether a `raise ... from None` on the way says
    that it was handled."""
    cause: BaseException | None = error
    visited: set[int] = set()
    suppressed = False
    while cause is not None and id(cause) not in visited:
        yield cause, suppressed
        visited.add(id(cause))
        suppressed = suppressed or (cause.__suppress_context__ and cause.__cause__ is None)
        cause = cause.__cause__ or cause.__context__


def give_up_if_exhausted(error: BaseException) -> None:
    """Leave with one line and status 2 where memory, descriptors or threads ran out; return for any
    other error.

    Without memory the interpreter's own clearing up fails, with tracebacks, so it is left out.
    """
    line = exhausted(error)
    if line is None:
        return
    error.__traceback__ = None  # frees what the failed functions held
    print(f"seqline: {printable(line)}", file=sys.stderr, flush=True)
    if not line.startswith(_MEMORY.partition("{")[0]):
        sys.exit(2)
    with suppress(OSError):
        sys.stdout.flush()
    os._exit(2)


def uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """`sys.excepthook` of the stages: what runs out during an import runs out before `exit_with` is
    called."""
    give_up_if_exhausted(error)
    sys.__excepthook__(kind, error, trace)


def read_json(path: Path, expected: str, todo: str) -> dict[str, Any]:
    """The mapping that a stage wrote to a JSON file; UserError if there is none, or if it is
    damaged."""
    content = read_json_value(path, expected, todo)
    if not isinstance(content, dict):
        raise refuse(str(path), type(content).__name__, f"{expected}: a mapping", todo)
    return content


def read_json_value(path: Path, expected: str, todo: str) -> Any:
    """The value, of any type, that a stage wrote to a JSON file; UserError if there is none, or if
    it is no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise refuse(str(path), "no such file", expected, todo) from None
    except IsADirectoryError:
        raise refuse(str(path), "a folder", expected, todo) from None
    except (ValueError, RecursionError) as error:  # not UTF-8, or no JSON
        raise refuse(str(path), describe_error(error), expected, todo) from None


def exit_with(main: Callable[[], None]) -> None:
    """Run a command's `main` and leave with 0, or with one line on stderr and status 2 for a user's
    mistake.

    A command whose reader leaves ends as the signal SIGPIPE would end it.
    """
    try:
        refuse_few_descriptors()
        main()
        left = reader_closed(sys.stdout)
    except UserError as error:
        give_up_if_exhausted(error)
        print(f"seqline: {error}", file=sys.stderr)
        reader_closed(sys.stdout)
        sys.exit(2)
    except OSError as error:
        if isinstance(error, BrokenPipeError) and reader_closed(sys.stdout):
            sys.exit(_LEFT)
        give_up_if_exhausted(error)
        if error.errno not in _DISK:
            raise
        where = error.filename2 or error.filename or "a file"  # of a copy, where to
        print(f"seqline: {printable(str(where))}: got {_DISK[error.errno]}", file=sys.stderr)
        sys.exit(2)
    except SystemExit as end:
        if reader_closed(sys.stdout) and not end.code:
            sys.exit(_LEFT)
        raise
    except Exception as error:
        # libraries report too little memory and too many files by errors of many types
        give_up_if_exhausted(error)
        raise
    if left:
        sys.exit(_LEFT)
