"""Edits of the text of `params.yaml`: blocks are added, all other bytes of the file staying; or any
value is changed, comments staying."""

import io
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.emitter import Emitter
from ruamel.yaml.representer import RoundTripRepresenter
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from pipeline.core import config
from pipeline.core.errors import refuse

_WIDTH = 100
_MOST_DIGITS = 40  # of a number without an exponent
_PLAIN = re.compile(r"[A-Za-z_][\w./-]*")


class _Representer(RoundTripRepresenter):
    """Writes `null` where ruamel.yaml leaves a gap, and numbers in full. A class of its own, as DVC
    writes `dvc.lock` by ruamel's."""

    yaml_representers = RoundTripRepresenter.yaml_representers | {
        type(None): lambda writer, _: writer.represent_scalar("tag:yaml.org,2002:null", "null"),
        float: lambda writer, value: writer.represent_scalar(
            "tag:yaml.org,2002:float", _number(value)
        ),
    }


class _Emitter(Emitter):
    """Quotes texts with a colon in brackets, which DVC cannot read without."""

    def analyze_scalar(self, scalar: Any) -> Any:
        analysis = super().analyze_scalar(scalar)
        analysis.allow_flow_plain = analysis.allow_flow_plain and ":" not in scalar
        return analysis


def edited(text: str, edit: Callable[[Any], None]) -> str:
    """The YAML `text` after `edit` has changed its content in place; comments are kept."""
    round_trip = YAML()
    round_trip.width, round_trip.preserve_quotes = 4096, True
    round_trip.indent(mapping=2, sequence=4, offset=2)
    round_trip.Representer, round_trip.Emitter = _Representer, _Emitter
    content = round_trip.load(text)
    _keep_anchors(content)
    edit(content)
    written = io.StringIO()
    round_trip.dump(content, written)
    return written.getvalue()


def styled(value: Any, in_list: bool = False) -> Any:
    """Return a value for `edited` to write: texts in quotes where YAML's versions differ, a list in
    a line, or a line for each of its sections."""
    if isinstance(value, str) and _text(value) != value:
        return DoubleQuotedScalarString(value)
    if isinstance(value, Mapping):
        mapping = CommentedMap((styled(key), styled(item, in_list)) for key, item in value.items())
        if in_list or not value:
            mapping.fa.set_flow_style()
        return mapping
    if isinstance(value, list):
        sequence = CommentedSeq(styled(item, True) for item in value)
        if in_list or not any(isinstance(item, Mapping) for item in value):
            sequence.fa.set_flow_style()
        return sequence
    return value


def split_lines(text: str) -> list[str]:
    """Return the lines of the YAML `text`, as ruamel.yaml counts them: U+2028 ends none."""
    return re.sub("\r\n?", "\n", text).removesuffix("\n").split("\n")


def _keep_anchors(content: Any) -> None:
    """Mark anchors that nothing merges yet: ruamel.yaml would leave them out, and `--seeds` adds
    lines that merge them."""
    if not isinstance(content, CommentedMap):
        return
    if content.anchor.value:
        content.anchor.always_dump = True
    for value in content.values():
        _keep_anchors(value)


def block(name: str, values: Mapping[str, Any], comment: str, anchor: str = "") -> list[str]:
    """Lines of the block `name` of a section, without indentation. Mappings that fit into a line
    stand in one."""
    head = f"{_text(name)}: &{anchor}" if anchor else f"{_text(name)}:"
    return [f"{head} # {comment}" if comment else head, *lines_of(values, 1)]


def flow(value: Any) -> str:
    """A value in one line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return _number(value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_text(key)}: {flow(item)}" for key, item in value.items()) + "}"
    return "[" + ", ".join(map(flow, value)) + "]"


def with_block(text: str, section: str, lines: Sequence[str]) -> str:
    """The params file `text` with a block at the end of a section; UserError if the section is
    absent, empty or written in one line."""
    content = YAML().load(text)
    blocks = content.get(section) if isinstance(content, CommentedMap) else None
    if not isinstance(blocks, CommentedMap) or not blocks or blocks.fa.flow_style():
        expected = "a section with a block of several lines"
        raise refuse(section, "nothing to add to", expected, "Start with `seqline use default`.")

    rows = split_lines(text)
    starts = [content.lc.key(key)[0] for key in content]
    here = content.lc.key(section)[0]
    end = min((start for start in starts if start > here), default=len(rows))
    # Comments above the next section, and blank lines, belong to that.
    while end > here + 1 and (not rows[end - 1].strip() or rows[end - 1].startswith("#")):
        end -= 1

    indent = " " * blocks.lc.key(next(iter(blocks)))[1]
    added = [f"{indent}{line}" if line else "" for line in lines]
    spaced = any(not row.strip() for row in rows[here:end])
    return "\n".join([*rows[:end], *([""] if spaced else []), *added, *rows[end:]]) + "\n"


def refuse_taken(path: Path, section: str, name: str, option: str) -> None:
    """UserError for a name that a block of the section has."""
    if name in config.section(path, section):
        todo = f"Give another one with {option}."
        raise refuse(f"{section}.{name}", "a block that is there already", "a new name", todo)


def lines_of(values: Mapping[str, Any], depth: int = 0) -> list[str]:
    """Return the lines of keys and values, indented by `depth` levels."""
    lines = []
    pad = "  " * depth
    for key, value in values.items():
        line = f"{pad}{_text(key)}: {flow(value)}"
        if isinstance(value, Mapping) and len(line) > _WIDTH - 4:
            lines += [f"{pad}{_text(key)}:", *lines_of(value, depth + 1)]
        elif isinstance(value, list) and value and all(isinstance(v, Mapping) for v in value):
            lines += [f"{pad}{_text(key)}:", *(f"{pad}  - {flow(item)}" for item in value)]
        else:
            lines.append(line)
    return lines


def _number(value: int | float) -> str:
    """A number without an exponent, which YAML's versions read differently, where its length
    allows."""
    text = repr(value)
    if not math.isfinite(value):
        return {"inf": ".inf", "-inf": "-.inf"}.get(text, ".nan")
    if "e" not in text or abs(Decimal(text).adjusted()) >= _MOST_DIGITS:
        return text
    full = f"{Decimal(text):f}"
    return full if "." in full else f"{full}.0"


def _text(text: str) -> str:
    """A text in quotes, unless it is a plain word in every version of YAML."""
    if _PLAIN.fullmatch(text) and text.lower() not in ("y", "n") and yaml.safe_load(text) == text:
        return text
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(char if char.isprintable() else _escape(char) for char in quoted)


def _escape(char: str) -> str:
    """A character by its number, as YAML reads it; JSON's surrogate pairs it does not."""
    return f"\\u{ord(char):04x}" if ord(char) < 1 << 16 else f"\\U{ord(char):08x}"
