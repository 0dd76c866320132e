"""Strict loading: one section of `params.yaml` becomes one frozen dataclass with the same field
names.

Dataclasses have no defaults (a default in Python would be a parameter that `dvc params diff` cannot
see), and live next to the code that they configure. Unknown, missing and wrongly typed keys are
refused with their dotted name. A dataclass checks conditions between its fields in `__post_init__`
by raising `refuse("field", ...)`; the loader puts the section in front."""

import copy
import dataclasses
import difflib
import importlib
import math
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.core import renamed_keys, yaml_reader
from pipeline.core.errors import UserError, refuse
from pipeline.core.mistakes import Mistakes

T = typing.TypeVar("T")
BLOCKS = ("corpora", "settings", "runs")  # sections of params.yaml that have named blocks
_FLOAT_WITHOUT_DOT = re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+")


def read(path: Path, strict: bool = True) -> dict[str, Any]:
    """Read a YAML file as a mapping; UserError if it is absent, broken or no mapping, or has a key
    twice.

    `strict`, for files that people write: values on which YAML's versions differ, keys that are no
    texts, and renamed keys are refused."""
    return copy.deepcopy(_mapping(path, strict))


def section(path: Path, dotted: str) -> Any:
    """Return the part of the YAML file under the dotted key; UserError with the choices if it is
    absent, and for one of `BLOCKS` that is no mapping."""
    value: Any = _mapping(path)
    parents: list[str] = []
    for key in dotted.split("."):
        if not isinstance(value, Mapping) or key not in value:
            choices = list(value) if isinstance(value, Mapping) else []
            raise refuse(
                ".".join([*parents, key]), "nothing", _one_of(choices), f"Add it to {path}."
            )
        value = value[key]
        parents.append(key)
    if dotted in BLOCKS and not isinstance(value, Mapping):
        raise refuse(
            dotted, value, "a section with at least one block", "Add one, or write {} for none."
        )
    return copy.deepcopy(value)


def blocks(path: Path, name: str) -> dict[str, dict[str, Any]]:
    """Return the blocks of a section by name; UserError if it, or one of them, is no mapping."""
    content: dict[str, dict[str, Any]] = section(path, name)
    for key, block in content.items():
        if not isinstance(block, Mapping):
            raise refuse(f"{name}.{key}", block, "a section")
    return content


def _mapping(path: Path, strict: bool = True) -> dict[str, Any]:
    """Return the file's content, shared between reads, so callers copy it; UserError if it is no
    mapping."""
    content = yaml_reader.read(path, strict)
    if not isinstance(content, dict):
        raise refuse(str(path), type(content).__name__, "a mapping of sections")
    if strict:
        renamed_keys.refuse_old_keys(content)
    return content


def leaves(block: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every value of nested blocks that is no block with keys, with the keys that lead to
    it."""
    if isinstance(block, Mapping) and block:
        for key, value in block.items():
            yield from leaves(value, (*above, str(key)))
    else:
        yield above, block


def named_module(package: str, name: str, where: str) -> types.ModuleType:
    """Import the module `name` of the package (e.g. `pipeline.models`): a family, task, format or
    search."""
    choices = module_names(package)
    if name not in choices:
        raise refuse(where, name, _one_of(choices), nearest(name, choices))
    return importlib.import_module(f"{package}.{name}")


def module_names(package: str) -> list[str]:
    """Names of the modules of the package (e.g. `pipeline.models`), sorted."""
    folder = Path(__file__).parents[2].joinpath(*package.split("."))
    return sorted(file.stem for file in folder.glob("*.py") if file.stem != "__init__")


def load(cls: type[T], values: Any, where: str) -> T:
    """Convert `values`, a mapping out of YAML, to the dataclass `cls`.

    UserError for all unknown, missing and wrongly typed keys; `where` is the section's dotted
    name."""
    if not isinstance(values, Mapping):
        raise refuse(where, values, f"a section with the keys {_names(cls)}")

    hints = typing.get_type_hints(cls)
    mistakes = Mistakes()
    unknown = [key for key in values if key not in hints]
    for key in unknown:
        todo = nearest(key, list(hints)) or "Remove it."
        with mistakes.collect():
            raise refuse(f"{where}.{key}", "an unknown key", _one_of(list(hints)), todo)

    # A misspelled key is one mistake: its right name is not missing as well.
    misspelled = {_closest(key, list(hints)) for key in unknown}
    fields = {}
    for key, hint in hints.items():
        if key in misspelled and key not in values:
            continue
        with mistakes.collect():
            if key not in values:
                raise refuse(f"{where}.{key}", "nothing", expected_type(hint), "Add the key.")
            fields[key] = _convert(values[key], hint, f"{where}.{key}")
    mistakes.refuse()

    # Conditions between the fields.
    try:
        return cls(**fields)
    except UserError as error:
        raise UserError(*(f"{where}.{line}" for line in error.lines)) from None


def load_named(kinds: Sequence[type[T]], values: Any, where: str, key: str = "name") -> T:
    """Convert `values` to one of several dataclasses: the one whose Literal field `key` has the
    value of this key."""
    by_name = _by_name(kinds, key)
    if not isinstance(values, Mapping):
        raise refuse(where, values, f"a section whose {key} is {_one_of(list(by_name))}")
    name = str(values.get(key, "nothing"))
    if name not in by_name:
        raise refuse(f"{where}.{key}", name, _one_of(list(by_name)), nearest(name, list(by_name)))
    return load(by_name[name], values, where)


def load_objective(task: types.ModuleType, values: Any, where: str) -> Any:
    """Load the block `objective` of a task: its Config, or of its OBJECTIVES the one with the
    `method` that the block names."""
    if hasattr(task, "OBJECTIVES"):
        return load_named(tuple(task.OBJECTIVES), values, where, "method")
    return load(task.Config, values, where)


def _convert(value: Any, hint: Any, where: str) -> Any:
    """Convert a value out of YAML to the type `hint`; UserError if it has another type."""
    origin = typing.get_origin(hint)
    arguments = typing.get_args(hint)
    if hint is Any:
        return value

    if dataclasses.is_dataclass(hint):
        return load(typing.cast(type, hint), value, where)
    if origin is typing.Literal:
        # The types too: in Python True equals 1.
        if value in arguments and type(value) in {type(argument) for argument in arguments}:
            return value
    elif origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        if all(dataclasses.is_dataclass(argument) for argument in arguments):
            return load_named(arguments, value, where)
        others = [argument for argument in arguments if argument is not type(None)]
        if len(others) == 1:
            return _convert(value, others[0], where)
        if type(value) in others:
            return value
    elif origin is tuple:
        if isinstance(value, list):
            items = {f"{where}[{i}]": item for i, item in enumerate(value)}
            return tuple(_convert_all(items, arguments[0]).values())
    elif origin is dict:
        if isinstance(value, Mapping):
            for key in value:
                if not isinstance(key, str):
                    problem = f"the key {key!r}"
                    todo = "Put it in quotes."
                    raise refuse(f"{where}.{key}", problem, "a text as the key", todo)
            items = {f"{where}.{key}": item for key, item in value.items()}
            return dict(zip(value, _convert_all(items, arguments[1]).values(), strict=True))
    elif hint is float:
        if isinstance(value, str) and _FLOAT_WITHOUT_DOT.fullmatch(value):
            # PyYAML reads 1e-3 as a text, DVC as a number.
            todo = f"Write it in full, as {yaml_reader.in_full(value)}, without quotes."
            raise refuse(where, value, "a number", todo)
        if isinstance(value, int | float) and not isinstance(value, bool):
            if not math.isfinite(value):
                raise refuse(where, value, "a finite number")
            return float(value)
    elif hint is int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    elif isinstance(value, hint):
        return value

    todo = "Put it in quotes." if hint is str and isinstance(value, bool | int | float) else ""
    raise refuse(where, value, expected_type(hint), todo)


def _convert_all(items: Mapping[str, Any], hint: Any) -> dict[str, Any]:
    """Convert values, by their dotted names, to the type `hint`; UserError for all that have
    another type."""
    mistakes = Mistakes()
    converted = {}
    for where, item in items.items():
        with mistakes.collect():
            converted[where] = _convert(item, hint, where)
    mistakes.refuse()
    return converted


def expected_type(hint: Any) -> str:
    """Describe the type `hint` for a message."""
    origin = typing.get_origin(hint)
    arguments = typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return f"a section with the keys {_names(hint)}"
    if origin is typing.Literal:
        return _one_of(list(arguments))
    if origin in (typing.Union, types.UnionType):
        if all(dataclasses.is_dataclass(argument) for argument in arguments):
            return f"a section whose name is {_one_of(list(_by_name(arguments)))}"
        return " or ".join(expected_type(argument) for argument in arguments)

    if origin is tuple:
        return f"a list, each item {expected_type(arguments[0])}"
    if origin is dict and arguments[1] is Any:
        return "a section"
    if origin is dict:
        return f"a mapping, each value {expected_type(arguments[1])}"

    words = {
        int: "a whole number",
        float: "a number",
        str: "a text",
        bool: "true or false",
        type(None): "null",
        Any: "a value",
    }
    return words.get(hint, str(hint))


def _by_name(kinds: Sequence[type[T]], key: str = "name") -> dict[str, type[T]]:
    """Return the dataclasses by the values of their Literal field `key`."""
    return {
        name: kind for kind in kinds for name in typing.get_args(typing.get_type_hints(kind)[key])
    }


def nearest(got: Any, choices: Sequence[str]) -> str:
    """Return "Did you mean ...?" with the choice most similar to `got`; "" if none is similar."""
    close = _closest(got, choices)
    return "" if close is None else f"Did you mean {close!r}?"


def _closest(got: Any, choices: Sequence[str]) -> str | None:
    return next(iter(difflib.get_close_matches(str(got), choices, 1)), None)


def _names(cls: Any) -> str:
    return ", ".join(field.name for field in dataclasses.fields(cls))


def _one_of(choices: list[Any]) -> str:
    return "one of " + ", ".join(str(choice) for choice in choices) if choices else "a section"
