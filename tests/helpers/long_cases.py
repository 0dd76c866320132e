"""Cases of a parametrized test divided between `make test` and `make test-long`."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest


def mostly_long(
    values: Iterable[Any],
    quick: Callable[[Any], bool] | int,
    name: Callable[[Any], str] | None = None,
) -> list[Any]:
    """Mark as long all values but the first `quick` ones, or those for which `quick` is true.

    Tuples are the arguments of one case. `name` gives each case its id.
    """
    cases = []
    for number, value in enumerate(values):
        is_quick = number < quick if isinstance(quick, int) else quick(value)
        marks = () if is_quick else (pytest.mark.long,)
        arguments = value if isinstance(value, tuple) else (value,)
        cases.append(pytest.param(*arguments, marks=marks, id=name(value) if name else None))
    return cases
