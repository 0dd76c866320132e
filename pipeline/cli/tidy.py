"""`seqline tidy`: give params.yaml the form of the last commit again."""

import argparse
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from pipeline.cli.arguments import print_escaped

HELP = "write params.yaml in the form of the last commit, with its present values"

Keys = tuple[str, ...]
_PASSES = 3  # the second corrects keys that merge a changed one, the third is to spare


class Change(Enum):
    """A change that has no value to show."""

    ADDED = "added"
    REMOVED = "removed"


def add(parser: argparse.ArgumentParser) -> None:
    """Add no arguments; say what it is for."""
    parser.description = (
        "`dvc exp run -S` writes params.yaml anew, without comments and with the merged keys in "
        "every block. This takes the committed text, and puts the changed values, new blocks and "
        "removed ones in."
    )


def run(root: Path, arguments: argparse.Namespace) -> None:
    """Write the file, and list what differs from the commit."""
    changes = tidy(root)
    for key, value in changes.items():
        print_escaped(f"{key}: {value.value if isinstance(value, Change) else value}")
    what = "these keys" if changes else "no value"
    print(f"params.yaml is as in the last commit; {what} changed")
    if changes:
        print("To go back to the last commit, results included: git restore -SW . && dvc checkout")


def tidy(root: Path) -> dict[str, Any]:
    """Write the committed params.yaml with the present values; return those that differ, by dotted
    key. A block that was added or removed is one key. UserError without a committed file, and if
    the form cannot hold the values."""
    from pipeline.cli import validate_params
    from pipeline.core import config, git, yaml_reader
    from pipeline.core.atomic import atomic_file
    from pipeline.core.errors import refuse

    path = root / "params.yaml"
    committed = git.output(root, "show", "HEAD:./params.yaml")
    if committed is None:
        raise refuse("params.yaml", "no committed one", "one in the last commit", "Commit it.")
    text = committed.decode("utf-8")
    before = yaml_reader.value(text, "the committed params.yaml")
    after = config.read(path)

    for _ in range(_PASSES):
        written = yaml_reader.value(text, "params.yaml")
        if not (remaining := dict(_differences(written, after))):
            break
        text = _with_changes(text, written, remaining)
    if wrong := next(_differences(yaml_reader.value(text, "params.yaml"), after), None):
        raise refuse(
            ".".join(wrong[0]),
            "a key that the committed form cannot hold",
            "changed values, and new or removed blocks",
            "Commit params.yaml as it is.",
        )

    with atomic_file(path) as partial:
        partial.write_text(text, encoding="utf-8")
        validate_params.check(partial)
    return {
        ".".join(keys): Change.ADDED if not _holds(before, keys) and _is_block(value) else value
        for keys, value in _differences(before, after)
    }


def _differences(before: Any, after: Any, above: Keys = ()) -> Iterator[tuple[Keys, Any]]:
    """The values of `after` that `before` has not, and `Change.REMOVED` for those that `before`
    alone has, by the keys that lead to them; an absent block is one value."""
    for key in [*after, *(key for key in before if key not in after)]:
        keys = (*above, key)
        if key not in after:
            yield keys, Change.REMOVED
        elif key in before and _is_block(before[key]) and _is_block(after[key]):
            yield from _differences(before[key], after[key], keys)
        elif key not in before or not _is_same(before[key], after[key]):
            yield keys, after[key]


def _is_block(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(value)


def _is_same(one: Any, other: Any) -> bool:
    """Whether they are written alike: 1, 1.0 and true are equal in Python."""
    return repr(one) == repr(other)


def _holds(content: Any, keys: Keys) -> bool:
    for key in keys:
        if not isinstance(content, Mapping) or key not in content:
            return False
        content = content[key]
    return True


def _with_changes(text: str, written: Any, changes: Mapping[Keys, Any]) -> str:
    """The YAML `text`, whose value is `written`, with the changes; new blocks of a section are at
    its end."""
    from pipeline.cli import params_text

    new = {
        keys: value
        for keys, value in changes.items()
        if len(keys) == 2 and _is_block(value) and _is_block(written.get(keys[0]))
        if not _holds(written, keys)
    }

    def edit(content: Any) -> None:
        for keys, value in changes.items():
            if keys in new:
                continue
            block = content
            for key in keys[:-1]:
                block = block[key]
            if value is Change.REMOVED:
                block.pop(keys[-1], None)
            else:
                block[keys[-1]] = params_text.in_line(value) if isinstance(value, list) else value

    if len(new) < len(changes):
        text = params_text.edited(text, edit)
    for (section, name), value in new.items():
        text = params_text.with_block(text, section, params_text.block(name, value, ""))
    return text
