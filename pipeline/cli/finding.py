"""Findings of the checks of `seqline doctor`."""

from typing import Literal, NamedTuple


class Finding(NamedTuple):
    """Result of one check; only FAIL means that something will not work.

    `todo` is what to do about it, unless `detail` is an error that says so itself."""

    state: Literal["ok", "warn", "FAIL"]
    subject: str
    detail: str
    todo: str = ""
