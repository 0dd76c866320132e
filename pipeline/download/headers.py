"""Headers of a response, checked before they are used."""

import re

import requests

from pipeline.core.errors import printable
from pipeline.download.failures import DownloadError
from pipeline.download.partial import Note

_MOST_SHOWN = 100  # characters of what a server says
_MOST_VALIDATOR = 1000  # characters of an ETag or a date that are kept, and sent back
_NUMBER = "[0-9]{1,18}"  # a size; more digits than a disk has bytes are none
_CONTENT_RANGE = re.compile(rf"bytes (?:({_NUMBER})-{_NUMBER}|\*)/({_NUMBER}|\*)")


def continues(response: requests.Response, have: int, note: Note) -> bool:
    """Return whether a 206 starts right after the `have` bytes, in the same version of the file."""
    start, total = content_range(response)
    tag = validator(response, "ETag")
    same = not (tag and note.validator and '"' in note.validator) or tag == note.validator
    return start == have and same and (None in (total, note.total) or total == note.total)


def content_range(response: requests.Response) -> tuple[int | None, int | None]:
    """First byte and total size out of a Content-Range header, each None if it does not say."""
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
    if not match:
        return None, None
    return int(match[1]) if match[1] else None, int(match[2]) if match[2] != "*" else None


def content_length(response: requests.Response) -> int | None:
    """Size of the body, None if the response has none; `DownloadError` if the header is no size."""
    header = response.headers.get("Content-Length")
    if header is None:
        return None
    sizes = {size.strip() for size in header.split(",")}  # a header that comes twice is one list
    if len(sizes) > 1 or (size := number(sizes.pop())) is None:
        raise DownloadError("a Content-Length that is no size")
    return size


def number(text: str) -> int | None:
    """A number of a sane length, else None."""
    return int(text) if re.fullmatch(_NUMBER, text) else None


def validator(response: requests.Response, header: str) -> str | None:
    """A header that names the file's version, None if it cannot be sent back."""
    value = response.headers.get(header)
    return (
        value
        if value and value.isascii() and value.isprintable() and len(value) <= _MOST_VALIDATOR
        else None
    )


def status(response: requests.Response) -> str:
    """The status line, for a message."""
    return printable(f"{response.status_code} {response.reason}")[:_MOST_SHOWN].rstrip()
