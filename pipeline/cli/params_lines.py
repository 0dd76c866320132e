"""Edits of a params file by lines: keys are removed and lists changed, and all other lines stay as
they are, with their comments."""

from collections.abc import Sequence
from contextlib import suppress
from difflib import SequenceMatcher
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.nodes import CollectionNode, MappingNode, Node, SequenceNode

from pipeline.cli import params_text
from pipeline.core import yaml_reader
from pipeline.core.errors import UserError

Keys = tuple[str, ...]


def without(text: str, paths: Sequence[Keys]) -> str:
    """Return the YAML `text` without the keys that `paths` lead to, whose comments above go too.

    Where they are no lines of their own, ruamel.yaml writes the file: a comment below a removed key
    is then lost."""
    lines = params_text.split_lines(text)
    root = YAML().compose(text)
    places = [_place(root, path) for path in paths]
    if None not in places:
        rows = sorted((_rows(lines, *place) for place in places if place), reverse=True)
        for first, end in rows:
            _remove(lines, first, end)
        shorter = "\n".join(lines) + "\n"
        content = yaml_reader.value(text, "params.yaml")
        for path in paths:
            _parent(content, path).pop(path[-1], None)
        with suppress(UserError):  # of an anchor that was removed
            if yaml_reader.value(shorter, "params.yaml") == content:
                return shorter

    def edit(content: Any) -> None:
        for path in paths:
            with suppress(KeyError):  # of a merged key, which stays
                _parent(content, path).pop(path[-1], None)

    return params_text.edited(text, edit)


def with_value(text: str, path: Keys, value: Any) -> str | None:
    """Return the YAML `text` with another value of a key whose value has lines of its own; None if
    it has none, or has an anchor in them. Items of a list that are the same keep their lines."""
    lines = params_text.split_lines(text)
    place = _place(YAML().compose(text), path)
    if place is None or not isinstance(place[1], CollectionNode) or place[1].flow_style:
        return None
    key, node = place
    if isinstance(node, SequenceNode) and isinstance(value, list) and value:
        before = _parent(yaml_reader.value(text, "params.yaml"), path)[path[-1]]
        new = _items(lines, node, before, value)
        first, end = _chunks(lines, node)[0][0], _last_row(key, node) + 1
    else:
        column = key.start_mark.column
        new = [f"{' ' * column}{line}" for line in params_text.lines_of({path[-1]: value})]
        first, end = key.start_mark.line, _last_row(key, node) + 1
    changed = "\n".join([*lines[:first], *new, *lines[end:]]) + "\n"
    with suppress(UserError):  # of an anchor that was in the lines
        yaml_reader.value(changed, "params.yaml")
        return changed
    return None


def _parent(content: Any, path: Keys) -> Any:
    for key in path[:-1]:
        content = content[key]
    return content


def _place(node: Node, path: Keys) -> tuple[Node, Node] | None:
    """Return the nodes of the key that `path` leads to, and of its value; None if it has no line of
    its own: in braces, behind an alias or merged."""
    key = None
    for word in path:
        if not isinstance(node, MappingNode) or node.flow_style:
            return None
        pair = next((pair for pair in node.value if pair[0].value == word), None)
        if pair is None or (key is not None and pair[0].start_mark.line < key.start_mark.line):
            return None
        key, node = pair
    return None if key is None or _is_alias(key, node) else (key, node)


def _is_alias(key: Node, value: Node) -> bool:
    """Return whether the value stands before its key, as the value of an alias does."""
    return bool(value.start_mark.index < key.start_mark.index)


def _last_row(key: Node, value: Node) -> int:
    """Return the last line of a value, which begins after `key`."""
    if _is_alias(key, value):
        return int(key.end_mark.line)
    if isinstance(value, MappingNode) and not value.flow_style and value.value:
        return _last_row(*value.value[-1])
    if isinstance(value, SequenceNode) and not value.flow_style and value.value:
        return _last_row(value, value.value[-1])
    end = value.end_mark
    return int(end.line - (end.column == 0 and end.line > value.start_mark.line))


def _rows(lines: Sequence[str], key: Node, value: Node) -> tuple[int, int]:
    """Return the first line of a key, with the comments above it, and the line after its value."""
    column = key.start_mark.column
    end = _last_row(key, value) + 1
    while end < len(lines) and _is_comment(lines[end]) and _indent(lines[end]) > column:
        end += 1
    return _above(lines, key.start_mark.line, column), end


def _above(lines: Sequence[str], row: int, column: int) -> int:
    """Return the first of the comments directly above a line, which are indented alike."""
    while row and _is_comment(lines[row - 1]) and _indent(lines[row - 1]) == column:
        row -= 1
    return row


def _is_comment(line: str) -> bool:
    return line.lstrip(" ").startswith("#")


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _remove(lines: list[str], first: int, end: int) -> None:
    """Remove lines, and blank ones after them that would be at the beginning of a section, after
    other blank ones or at the end of the file."""
    above = lines[first - 1] if first else ""
    if not above.strip() or _indent(above) < _indent(lines[first]):
        while end < len(lines) and not lines[end].strip():
            end += 1
    while end == len(lines) and first and not lines[first - 1].strip():
        first -= 1
    del lines[first:end]


def _items(lines: Sequence[str], node: Node, before: list[Any], after: list[Any]) -> list[str]:
    """Return the lines of a list with other items."""
    chunks = _chunks(lines, node)
    indent = " " * node.start_mark.column
    new = [f"{indent}- {params_text.flow(item)}" for item in after]
    written: list[str] = []
    matcher = SequenceMatcher(None, list(map(repr, before)), list(map(repr, after)), autojunk=False)
    for kind, start, end, new_start, new_end in matcher.get_opcodes():
        if kind == "equal":
            written += [line for first, _, last in chunks[start:end] for line in lines[first:last]]
            continue
        # A changed item keeps the comments above it.
        for number in range(new_start, new_end):
            if (old := start + number - new_start) < end:
                written += lines[chunks[old][0] : chunks[old][1]]
            written.append(new[number])
    return written


def _chunks(lines: Sequence[str], node: Node) -> list[tuple[int, int, int]]:
    """Return the first line of each item with the comments above it, its own first line, and the
    line after it."""
    starts = [item.start_mark.line for item in node.value]
    firsts = [_above(lines, row, node.start_mark.column) for row in starts]
    ends = [*firsts[1:], _last_row(node, node.value[-1]) + 1]
    return list(zip(firsts, starts, ends, strict=True))
