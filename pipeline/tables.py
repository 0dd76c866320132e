"""The former name of `pipeline.core.tables`, for programs outside of the project that import it."""

from typing import Any

from pipeline.core import tables as _tables


def __getattr__(name: str) -> Any:
    return getattr(_tables, name)
