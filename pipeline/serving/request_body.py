"""Bodies of requests to `seqline serve`: MLflow's forms in JSON, and CSV, as texts and params.

Anybody who reaches the server can send one: every error in it is a UserError of one line."""

import csv
import io
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from pipeline.core.config import nearest
from pipeline.core.errors import refuse
from pipeline.core.request_text import json_kind

# keys of MLflow's forms, each with another layout of the texts
FORMS = ("inputs", "instances", "dataframe_split", "dataframe_records")
_KEYS = (*FORMS, "params")
_SPLIT_KEYS = ("columns", "index", "data")
_LARGEST_NUMBER = 30  # digits; Python parses long ones in quadratic time


class Request(NamedTuple):
    """Texts and params as the body has them; their values are not checked yet."""

    texts: list[Any]
    params: dict[str, Any]


def read_json(body: bytes) -> Request:
    """Read a request from a body of JSON; UserError for anything else, and for keys that no request
    has."""
    content = _parse(_decode(body))
    if not isinstance(content, dict):
        raise refuse(
            "body", json_kind(content), f"an object with one of the keys {', '.join(FORMS)}"
        )

    _check_keys("body", content, _KEYS)
    forms = [key for key in content if key in FORMS]
    if len(forms) != 1:
        raise refuse(
            "body", " and ".join(forms) or "no texts", f"exactly one of the keys {', '.join(FORMS)}"
        )

    params = content.get("params")
    if params is not None and not isinstance(params, dict):
        raise refuse("params", json_kind(params), "an object")
    return Request(_column(forms[0], content[forms[0]]), params or {})


def read_csv(body: bytes) -> Request:
    """Read a request from a body of CSV: a name for the column, then a text per row; UserError for
    anything else."""
    reader = csv.reader(io.StringIO(_decode(body), newline=""), strict=True)
    try:
        rows = [row or [""] for row in reader]
    except csv.Error as error:
        raise refuse("body", "invalid CSV", f"a column of texts ({error})") from None
    if not rows:
        raise refuse("body", "nothing", "a name for the column, then a text a line")

    # Check the header as well, then drop it.
    return Request([_cell(f"line {number}", row) for number, row in enumerate(rows, 1)][1:], {})


def _column(form: str, value: Any) -> list[Any]:
    """Return the single column in one of MLflow's forms; UserError if there are more columns, or it
    is no table."""
    if form == "dataframe_split":
        return _split_column(form, value)
    if isinstance(value, dict) and form != "dataframe_records":
        # Columns by name: {"text": ["a", "b"]}.
        column = _single(form, list(value.values()), list(value))
        return column if isinstance(column, list) else [column]

    if not isinstance(value, list):
        # MLflow accepts a single text as inputs, too.
        if form == "inputs" and isinstance(value, str):
            return [value]
        raise refuse(form, json_kind(value), "a list of texts")
    # Rows are texts themselves, or lists or objects with one text each.
    if form != "dataframe_records" and not any(isinstance(row, dict | list) for row in value):
        return value
    return [_cell(f"{form}[{number}]", row) for number, row in enumerate(value)]


def _split_column(form: str, value: Any) -> list[Any]:
    if not isinstance(value, dict):
        raise refuse(form, json_kind(value), "an object with the keys columns and data")
    _check_keys(form, value, _SPLIT_KEYS)
    columns = value.get("columns")
    rows = value.get("data")
    if columns is not None:
        names = columns if isinstance(columns, list) else []
        _single(form, names, names)
    if not isinstance(rows, list):
        raise refuse(f"{form}.data", json_kind(rows), "a list of rows")
    return [_cell(f"{form}.data[{number}]", row) for number, row in enumerate(rows)]


def _cell(where: str, row: Any) -> Any:
    """Return the single value of a row."""
    if isinstance(row, dict):
        return _single(where, list(row.values()), list(row))
    if isinstance(row, list):
        return _single(where, row, row)
    return row


def _single(where: str, values: list[Any], names: list[Any]) -> Any:
    """Return the only value; UserError, which shows the `names` of the values, if there are none or
    several."""
    if len(values) != 1:
        shown = ", ".join(str(name)[:30] for name in names[:5])
        raise refuse(
            where, f"{len(values)} columns{f' ({shown})' if shown else ''}", "one column, of texts"
        )
    return values[0]


def _check_keys(where: str, content: dict[str, Any], keys: Sequence[str]) -> None:
    for key in content:
        if key not in keys:
            todo = nearest(key, keys) or "Remove it."
            raise refuse(where, f"the unknown key {key[:60]!r}", f"one of {', '.join(keys)}", todo)


def _parse(text: str) -> Any:
    """Parse JSON as its standard has it: each key once, no NaN, and no deeper or longer than a
    request needs."""
    try:
        return json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_refuse_constant,
            parse_int=_parse_integer,
        )
    except RecursionError:
        raise refuse(
            "body", "JSON that is nested too deep", "an object with a list of texts"
        ) from None
    except json.JSONDecodeError as error:
        raise refuse("body", f"invalid JSON ({error.msg}, character {error.pos})", "JSON") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise refuse("body", "a key twice in one object", "each key once")
    return content


def _parse_integer(digits: str) -> int:
    if len(digits) > _LARGEST_NUMBER:
        raise refuse("body", f"a number of {len(digits)} digits", f"at most {_LARGEST_NUMBER}")
    return int(digits)


def _refuse_constant(name: str) -> Any:
    raise refuse("body", name, "JSON, which has no such number")


def _decode(body: bytes) -> str:
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise refuse("body", f"byte {body[error.start]:#04x} at {error.start}", "UTF-8") from None
