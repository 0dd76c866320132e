"""Check the type and length of texts of a request, and of the prefix of `seqline generate`.

Lines for `seqline translate` and `seqline classify` are checked in `pipeline.cli.input_text`, with
the same `LONGEST_TEXT`.
"""

import math
from typing import Any

from pipeline.core.errors import UserError, refuse

# In characters: more than the longest text of the presets' corpora. A review of IMDb has at most
# 13,704 (`find aclImdb/*/pos aclImdb/*/neg -type f -exec wc -m {} + | sort -n | tail`), a line of
# wikitext2 3,836.
LONGEST_TEXT = 14_000


def checked_text(value: Any, where: str) -> str:
    """Return the value, named `where` in messages; UserError unless it is a str of valid Unicode
    and not too long."""
    if not isinstance(value, str):
        raise refuse(where, json_kind(value), "a text")
    if len(value) > LONGEST_TEXT:
        raise too_long(where, f"{len(value)} characters")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise refuse(
            where, f"the lone surrogate U+{ord(value[error.start]):04X}", "Unicode characters"
        ) from None
    return value


def too_long(where: str, length: str) -> UserError:
    """Error for a text of more than `LONGEST_TEXT` characters; `length` is its length for the
    message."""
    return refuse(where, length, f"at most {LONGEST_TEXT}", "Divide it into sentences.")


def json_kind(value: Any) -> str:
    """Name the JSON type of a value; values of pandas and NumPy count as the type they
    represent."""
    name = type(value).__name__
    if value is None:
        return "null"
    if name in ("NAType", "NaTType") or (isinstance(value, float) and math.isnan(value)):
        return "NaN"
    if isinstance(value, bool) or name in ("bool_", "bool"):
        return "true" if value else "false"
    if isinstance(value, str):
        return "a text"
    if isinstance(value, bytes | bytearray):
        return "bytes"
    if isinstance(value, int | float) or (
        hasattr(value, "dtype") and not getattr(value, "shape", ())
    ):
        return "a number"
    if isinstance(value, dict):
        return "an object"
    return "a list" if isinstance(value, list | tuple) or hasattr(value, "shape") else name
