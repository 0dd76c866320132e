"""Headers of a response, checked before they are used."""

import re

import requests

from pipeline.core.errors import printable
from pipeline.download.failures import DownloadError
from pipeline.download.partial import Note

_MOST_SHOWN = 100  # characters of a status line in a message
_MOST_VALIDATOR = 1000  # characters of an ETag or a date to send back
_NUMBER = "[0-9]{1,18}"  # a size below 10^18 bytes, which no file exceeds
_CONTENT_RANGE = re.compile(rf"bytes (?:({_NUMBER})-{_NUMBER}|\*)/({_NUMBER}|\*)")


def continues(response: requests.Response, size: int, note: Note) -> bool:
    """Return whether a 206 starts at byte `size`, in the same version of the file."""
    start, total = content_range(response)
    tag = validator(response, "ETag")
    # ETags are quoted, dates are not: only two ETags can be compared.
    comparable = tag and note.validator and '"' in note.validator
    same_version = not comparable or tag == note.validator
    same_total = None in (total, note.total) or total == note.total
    return start == size and same_version and same_total


def content_range(response: requests.Response) -> tuple[int | None, int | None]:
    """First byte and total size of a Content-Range header, each None if it is missing."""
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
    if not match:
        return None, None
    return int(match[1]) if match[1] else None, int(match[2]) if match[2] != "*" else None


def content_length(response: requests.Response) -> int | None:
    """Size of the body, None if the response has none; `DownloadError` if the header is no size."""
    header = response.headers.get("Content-Length")
    if header is None:
        return None
    # A repeated header arrives joined with commas.
    sizes = {size.strip() for size in header.split(",")}
    if len(sizes) > 1 or (size := number(sizes.pop())) is None:
        raise DownloadError("a Content-Length that is no size")
    return size


def number(text: str) -> int | None:
    """Parse a number of at most 18 digits; None for anything else."""
    return int(text) if re.fullmatch(_NUMBER, text) else None


def validator(response: requests.Response, header: str) -> str | None:
    """A header that identifies the file's version; None if it cannot be sent back."""
    value = response.headers.get(header)
    if not value or len(value) > _MOST_VALIDATOR:
        return None
    return value if value.isascii() and value.isprintable() else None


def status(response: requests.Response) -> str:
    """Status line, for a message."""
    return printable(f"{response.status_code} {response.reason}")[:_MOST_SHOWN].rstrip()
