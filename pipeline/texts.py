"""Texts from outside, on the command line or in a request: what counts as one, and how long it may be."""

import math
from typing import Any

from pipeline.errors import UserError, refuse

LONGEST_TEXT = 10_000  # characters; a model was trained on sentences, and some need memory that grows with the square


def checked_text(value: Any, where: str) -> str:
    """The value, called `where` in messages; UserError unless it is a str of Unicode characters, and not too long."""
    if not isinstance(value, str):
        raise refuse(where, _kind(value), "a text")
    if len(value) > LONGEST_TEXT:
        raise too_long(where, f"{len(value)} characters")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise refuse(where, f"the lone surrogate U+{ord(value[error.start]):04X}", "Unicode characters") from None
    return value


def too_long(where: str, got: str) -> UserError:
    """The error to raise for a text of more than `LONGEST_TEXT` characters."""
    return refuse(where, got, f"at most {LONGEST_TEXT}", "Divide it into sentences.")


def _kind(value: Any) -> str:
    """What a value that is no text is, in the words of JSON."""
    name = type(value).__name__
    if value is None:
        return "null"
    if name in ("NAType", "NaTType") or (isinstance(value, float) and math.isnan(value)):
        return "NaN"
    if isinstance(value, bool) or name in ("bool_", "bool"):
        return "true or false"
    if isinstance(value, bytes | bytearray):
        return "bytes"
    if isinstance(value, int | float) or (hasattr(value, "dtype") and not getattr(value, "shape", ())):
        return "a number"
    if isinstance(value, dict):
        return "an object"
    return "a list" if isinstance(value, list | tuple) or hasattr(value, "shape") else name
