"""What the headers of an answer say, of which nothing is believed before it has been looked at."""

import re

import requests

from pipeline.download.failures import Failed
from pipeline.download.partial import Note
from pipeline.errors import printable

_MOST_SHOWN = 100  # characters of what a server says
_MOST_VALIDATOR = 1000  # characters of an ETag or a date that are kept, and sent back
_NUMBER = "[0-9]{1,18}"  # a size; more digits than a disk has bytes are none
_CONTENT_RANGE = re.compile(rf"bytes (?:({_NUMBER})-{_NUMBER}|\*)/({_NUMBER}|\*)")


def continues(response: requests.Response, have: int, note: Note) -> bool:
    """Whether a 206 goes on exactly where the bytes here stop, in the same version of the file."""
    start, total = content_range(response)
    tag = validator(response, "ETag")
    same = not (tag and note.validator and '"' in note.validator) or tag == note.validator
    return start == have and same and (None in (total, note.total) or total == note.total)


def content_range(response: requests.Response) -> tuple[int | None, int | None]:
    """First byte and total size out of a Content-Range header, each None if it does not say."""
    found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
    if not found:
        return None, None
    return int(found[1]) if found[1] else None, int(found[2]) if found[2] != "*" else None


def content_length(response: requests.Response) -> int | None:
    """The size of the body, None if the answer does not say; `Failed` for a size that is none."""
    header = response.headers.get("Content-Length")
    if header is None:
        return None
    sizes = {size.strip() for size in header.split(",")}  # a header that comes twice is one list
    if len(sizes) > 1 or (size := number(sizes.pop())) is None:
        raise Failed("a Content-Length that is no size")
    return size


def number(text: str) -> int | None:
    """A number of a sane length, else None."""
    return int(text) if re.fullmatch(_NUMBER, text) else None


def validator(response: requests.Response, header: str) -> str | None:
    """A header that names the file's version, if it can be sent back."""
    value = response.headers.get(header)
    return value if value and value.isascii() and value.isprintable() and len(value) <= _MOST_VALIDATOR else None


def status(response: requests.Response) -> str:
    """The status line, for a message."""
    return printable(f"{response.status_code} {response.reason}")[:_MOST_SHOWN].rstrip()
