"""Texts from outside, on the command line or in a request: their type and length are checked
here."""

import math
from typing import Any

from pipeline.core.errors import UserError, refuse

# In characters: more than any text of the presets' corpora has. The longest is a review of IMDb
# with 13,704, by `find aclImdb/*/pos aclImdb/*/neg -type f -exec wc -m {} + | sort -n | tail`; a
# line of wikitext2 has at most 3,836.
LONGEST_TEXT = 14_000


def checked_text(value: Any, where: str) -> str:
    """Return the value, called `where` in messages; UserError unless it is a str of Unicode that is
    not too long."""
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
    """Make the error to raise for a text of more than `LONGEST_TEXT` characters; `length` is shown
    as its length."""
    return refuse(where, length, f"at most {LONGEST_TEXT}", "Divide it into sentences.")


def json_kind(value: Any) -> str:
    """Name the kind of a value in the words of JSON; values out of pandas and NumPy count as what
    they stand for."""
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
