"""A params file with other values: its comments, anchors and merge keys stay."""

from collections import Counter
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any

from ruamel.yaml.comments import CommentedMap

from pipeline.cli import params_lines, params_text
from pipeline.cli.params_lines import Keys
from pipeline.core import yaml_reader
from pipeline.core.errors import refuse

_PASSES = 5  # each corrects keys that merge a changed one, which may be merged themselves


class Change(Enum):
    """A change that has no value to show."""

    ADDED = "added"
    REMOVED = "removed"


def with_values(text: str, wanted: Mapping[str, Any], form: str, todo: str) -> str:
    """Return the YAML `text` with the values `wanted`, and no other values changed.

    UserError if the form of the text cannot hold them: `form` names it, and `todo` is the
    remedy."""
    for _ in range(_PASSES):
        written = yaml_reader.value(text, "params.yaml")
        if not (remaining := dict(differences(written, wanted))):
            return text
        text = _with_changes(text, written, remaining)
    if wrong := next(differences(yaml_reader.value(text, "params.yaml"), wanted), None):
        expected = "changed values, and new or removed blocks"
        raise refuse(".".join(wrong[0]), f"a key that {form} cannot hold", expected, todo)
    return text


def differences(before: Any, after: Any, above: Keys = ()) -> Iterator[tuple[Keys, Any]]:
    """Yield the values of `after` that `before` has not, and `Change.REMOVED` for those that
    `before` alone has, by the keys that lead to them; an absent block is one value."""
    for key in [*after, *(key for key in before if key not in after)]:
        keys = (*above, key)
        if key not in after:
            yield keys, Change.REMOVED
        elif key in before and is_block(before[key]) and is_block(after[key]):
            yield from differences(before[key], after[key], keys)
        elif key not in before or not _is_same(before[key], after[key]):
            yield keys, after[key]


def is_block(value: Any) -> bool:
    """Return whether the value is a mapping with keys."""
    return isinstance(value, Mapping) and bool(value)


def holds(content: Any, keys: Keys) -> bool:
    """Return whether the keys lead to a value."""
    for key in keys:
        if not isinstance(content, Mapping) or key not in content:
            return False
        content = content[key]
    return True


def unshared(value: Any) -> Any:
    """Return a copy in which no two keys have one mapping or list, as aliases do."""
    if isinstance(value, Mapping):
        return {key: unshared(item) for key, item in value.items()}
    return list(map(unshared, value)) if isinstance(value, list) else value


def _is_same(one: Any, other: Any) -> bool:
    """Return whether two values are the same YAML; in Python, 1, 1.0 and true are equal."""
    return repr(one) == repr(other)


def _with_changes(text: str, written: Any, changes: Mapping[Keys, Any]) -> str:
    """The YAML `text`, whose value is `written`, with the changes; new blocks of a section are at
    its end."""
    removed = [keys for keys, value in changes.items() if value is Change.REMOVED]
    new = [
        keys
        for keys, value in changes.items()
        if len(keys) == 2 and is_block(value) and is_block(written.get(keys[0]))
        if not holds(written, keys)
    ]
    values = {
        keys: value for keys, value in changes.items() if keys not in removed and keys not in new
    }

    # Lists and blocks by lines, where they have lines of their own; all others by ruamel.yaml.
    for keys in list(values):
        if isinstance(values[keys], list | dict) or holds(written, keys):
            longer = params_lines.with_value(text, keys, values[keys])
            if longer is not None:
                text = longer
                del values[keys]
    if values:
        text = params_text.edited(text, lambda content: _set(content, values))
    if removed:
        text = params_lines.without(text, removed)
    for section, name in new:
        block = params_text.block(name, changes[section, name], "")
        text = params_text.with_block(text, section, block)
    return text


def _set(content: Any, values: Mapping[Keys, Any]) -> None:
    """Set values in what ruamel.yaml has read. A mapping that other keys share is copied before."""
    uses = Counter(_mappings(content))
    for keys, value in values.items():
        block = content
        for key in keys[:-1]:
            if uses[id(block[key])] > 1:
                block[key] = _copy(block[key])
            block = block[key]
        block[keys[-1]] = params_text.styled(value)


def _mappings(block: Any) -> Iterator[int]:
    """Yield the identity of each mapping in the mapping `block`, as often as it is in it."""
    for value in block.values():
        if isinstance(value, CommentedMap):
            yield id(value)
            yield from _mappings(value)


def _copy(block: CommentedMap) -> CommentedMap:
    """Return a copy without anchors, merge keys and comments."""
    pairs = [
        (key, _copy(value) if isinstance(value, CommentedMap) else value)
        for key, value in block.items()
    ]
    copied = CommentedMap(pairs)
    if block.fa.flow_style():
        copied.fa.set_flow_style()
    return copied
