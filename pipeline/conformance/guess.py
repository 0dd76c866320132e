"""A block `model:` for a family that no params file has: for each key a value of another family's
key of the same name, or one that suits the type."""

import typing
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import NoneType
from typing import Any

from pipeline.core import config

_BY_TYPE: dict[Any, Any] = {int: 8, float: 0.1, bool: False, str: "none"}


def block(files: Iterable[Path], config_class: type) -> dict[str, Any] | None:
    """The values of all keys of the class `Config`; None if a key has a type with none to guess,
    such as a list."""
    known = _known_values(files)
    values = {}
    for key, hint in typing.get_type_hints(config_class).items():
        choices = [value for value, _ in known.get(key, Counter()).most_common()]
        suited = _suited(hint, choices)
        if not suited:
            return None
        values[key] = suited[0]
    return values


def _known_values(files: Iterable[Path]) -> dict[str, Counter[Any]]:
    """The values that the settings of the files have for a key of `model:`, and how often."""
    known: dict[str, Counter[Any]] = {}
    for file in files:
        for setting in config.read(file).get("settings", {}).values():
            model = setting.get("model") if isinstance(setting, Mapping) else None
            for key, value in (model or {}).items():
                if isinstance(value, bool | int | float | str):
                    known.setdefault(key, Counter())[value] += 1
    return known


def _suited(hint: Any, choices: list[Any]) -> list[Any]:
    """The choices of the type `hint` and, last, a value that depends on the type alone."""
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is typing.Literal:
        return [value for value in choices if value in arguments] + [arguments[0]]
    if NoneType in arguments:
        return [None]
    if hint not in _BY_TYPE:
        return []
    return [value for value in choices if type(value) is hint] + [_BY_TYPE[hint]]
