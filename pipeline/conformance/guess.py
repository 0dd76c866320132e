"""A block `model:` for a family that no params file has: for each key a value of another family's
key of the same name, or one that suits the type."""

import dataclasses
import typing
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import NoneType
from typing import Any

from pipeline.core import config

_BY_TYPE: dict[Any, Any] = {int: 8, float: 0.1, bool: False, str: "none"}


def block(files: Iterable[Path], config_class: type) -> dict[str, Any] | None:
    """Return a value for each key of the class `Config`.

    None if a key has a type without a usual value, such as a list under a new name, or if the class
    refuses the values together."""
    used = _used_values(files)
    values = {}
    for key, hint in typing.get_type_hints(config_class).items():
        choices = [value for value, _ in used.get(key, Counter()).most_common()]
        suited = _suited(hint, choices)
        if not suited:
            return None
        values[key] = suited[0]
    return values if is_accepted(config_class, values) else None


def is_accepted(config_class: type, values: Mapping[str, Any]) -> bool:
    """Return true if `Config` accepts these values together."""
    if not dataclasses.is_dataclass(config_class):
        return True  # the first check says what it should be
    try:
        config.load(config_class, values, "model")
    except (AssertionError, TypeError, ValueError):  # a UserError is a ValueError
        return False
    return True


def _used_values(files: Iterable[Path]) -> dict[str, Counter[Any]]:
    """Count the values that the settings of the files have for each key of `model:`."""
    used: dict[str, Counter[Any]] = {}
    for file in files:
        for setting in (config.read(file).get("settings") or {}).values():
            model = setting.get("model") if isinstance(setting, Mapping) else None
            for key, value in (model or {}).items():
                if isinstance(value, list):
                    value = tuple(value)
                if isinstance(value, bool | int | float | str | tuple):
                    used.setdefault(key, Counter())[value] += 1
    return used


def _suited(hint: Any, choices: list[Any]) -> list[Any]:
    """The choices of the type `hint` and, last, a value that depends on the type alone, if it has
    one."""
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is typing.Literal:
        return [value for value in choices if value in arguments] + [arguments[0]]
    if NoneType in arguments:
        return [None]
    if typing.get_origin(hint) is tuple:
        return [list(value) for value in choices if isinstance(value, tuple)]
    if hint not in _BY_TYPE:
        return []
    return [value for value in choices if type(value) is hint] + [_BY_TYPE[hint]]
