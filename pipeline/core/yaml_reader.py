"""Read YAML files so that DVC reads the same values, and within bounds.

PyYAML reads YAML 1.1, and DVC (by ruamel.yaml) reads and writes YAML 1.2. What DVC writes must be
readable: `no` is a text here, and 5e-05 a number, as in YAML 1.2. Any other scalar on which they
differ is refused (`010` is 8 in YAML 1.1 and 10 in 1.2), as are dates, tags, keys that are no
texts, and keys that are repeated in a mapping. Depth, digits and the expansion of aliases are
bounded before any value is built."""

import functools
import os
import re
import stat
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import yaml

from pipeline.core.errors import UserError, not_utf8, refuse

_MAX_BYTES = 16 << 20
_MAX_DEPTH = 50
_MAX_NODES = 200_000  # with every alias written out
_MAX_DIGITS = 18  # of a whole number: these fit 64 bits
_SHOWN = 80  # characters of a value in a message

_TAG = "tag:yaml.org,2002:"
_EXPONENT = r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?[eE][-+]?[0-9]{1,3}"  # a number as Python writes it
_TRUE_OR_FALSE = "true|True|TRUE|false|False|FALSE"


def _resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    """Return PyYAML's patterns of plain scalars by their first character, with the words for true
    and false, and the exponents of decimal numbers, that YAML 1.2 has."""
    resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {
        first: [(tag, pattern) for tag, pattern in patterns if tag != f"{_TAG}bool"]
        for first, patterns in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    added = {
        "tTfF": (f"{_TAG}bool", re.compile(f"(?:{_TRUE_OR_FALSE})$")),
        "-0123456789": (f"{_TAG}float", re.compile(f"{_EXPONENT}$")),
    }
    for firsts, scalar in added.items():
        for first in firsts:
            resolvers.setdefault(first, []).append(scalar)
    return resolvers


# libyaml's loader is several times faster, where PyYAML was built with it
_Loader: Any = type(
    "_Loader",
    (getattr(yaml, "CSafeLoader", yaml.SafeLoader),),
    {"yaml_implicit_resolvers": _resolvers()},
)
_TYPES = ("str", "int", "float", "bool", "null")  # of scalars in settings, as YAML names them
_TODO_QUOTES = "Put it in quotes"

# Plain scalars that every version of YAML reads alike: for these, ruamel.yaml is not used (or
# imported).
_SAME_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?|true|false|null")
_SAME_TEXT = re.compile(r"(?!(?:true|false|null)$)[a-z][^\n]*", re.IGNORECASE)


def read(path: Path, strict: bool) -> Any:
    """Return the content of the YAML file; UserError if it is absent, broken, or read differently
    by YAML 1.1 and 1.2.

    `strict` is false for a file that no person writes, such as `dvc.lock`: its values and keys may
    be of any kind."""
    return _parsed(_text(path), path, strict)


def value(text: str, where: str) -> Any:
    """Return the value of `text` as YAML, called `where` in messages; UserError as `read` in strict
    mode."""
    return _load(text, Path(where), True, (where,))


def in_full(text: str) -> str:
    """Write a number such as 1e-3 without its exponent, if that is of a readable length."""
    try:
        number = Decimal(text.replace("_", ""))
    except InvalidOperation:
        return "in 0.001"
    return f"{number:f}" if abs(number.adjusted()) < 40 else "in 0.001"


@functools.lru_cache(maxsize=8)
def _parsed(text: str, path: Path, strict: bool) -> Any:
    """Return the content of the file, parsed only once for all sections that are read from it."""
    return _load(text, path, strict, ())


def _text(path: Path) -> str:
    try:
        # O_NONBLOCK, or opening a named pipe would wait for its writer.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise refuse(
                    str(path), "no regular file", "a YAML file", "Put a file in its place."
                )
            data = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        raise refuse(
            str(path), "no such file", "a YAML file", "Run from the project's root."
        ) from None
    except IsADirectoryError:
        raise refuse(str(path), "a folder", "a YAML file", "Put a file in its place.") from None
    except OSError as error:
        problem = (error.strerror or type(error).__name__).lower()
        raise refuse(
            str(path), problem, "a YAML file that can be read", "Fix its permissions or links."
        ) from None

    if len(data) > _MAX_BYTES:
        raise refuse(str(path), f"over {_MAX_BYTES} bytes", "a YAML file of at most that many")
    if refusal := not_utf8(str(path), data):
        raise refusal
    return data.decode("utf-8-sig")


def _load(text: str, path: Path, strict: bool, above: tuple[str, ...]) -> Any:
    try:
        _check_events(text, path, strict)

        # The nodes are checked before any value is built.
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _Check(loader, path, strict).check(node, above)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except UserError:
        raise
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise refuse(
            str(path),
            _short(" ".join(str(error).split()), 300),
            "valid YAML",
            "Correct the line named.",
        ) from None


def _check_events(text: str, path: Path, strict: bool) -> None:
    """Refuse nesting that is too deep, by the parser's events: libyaml's composer recurses without
    a bound. In strict mode, also refuse `%YAML 1.1`, after which DVC reads `no` as false."""
    depth = 0
    for event in yaml.parse(text, _Loader):
        if strict and isinstance(event, yaml.DocumentStartEvent) and event.version == (1, 1):
            raise refuse(str(path), "%YAML 1.1", "YAML 1.2", "Remove the line.")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _MAX_DEPTH:
                problem = f"over {_MAX_DEPTH} levels, one inside the other, in line {_line(event)}"
                raise refuse(
                    str(path), problem, f"{_MAX_DEPTH} levels at most", "Close the brackets."
                )
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


class _Check:
    """A walk over the nodes of one document, each of them visited once."""

    def __init__(self, loader: Any, path: Path, strict: bool) -> None:
        self._loader, self._path, self._strict = loader, path, strict
        self._sizes: dict[int, int] = {}  # number of nodes with every alias written out, by node
        self._open: set[int] = set()  # nodes whose parts are being visited
        self._brackets = 0  # number of open nodes in brackets or braces

    def check(self, node: yaml.Node, above: tuple[str, ...]) -> int:
        """Return the size of `node` at the key `above`; UserError for the first part that is
        refused."""
        if id(node) in self._open:
            raise self._refusal(
                node, above, "an alias of what it stands in", "no list or section inside itself"
            )
        if id(node) in self._sizes:
            return self._sizes[id(node)]

        in_brackets = isinstance(node, yaml.CollectionNode) and bool(node.flow_style)
        self._open.add(id(node))
        self._brackets += in_brackets
        size = 1 + sum(self._parts(node, above))
        self._brackets -= in_brackets
        self._open.remove(id(node))
        if size > _MAX_NODES:
            expected = f"at most {_MAX_NODES}"
            raise self._refusal(
                node, above, f"over {_MAX_NODES} values, with every alias written out", expected
            )
        self._sizes[id(node)] = size
        return size

    def _parts(self, node: yaml.Node, above: tuple[str, ...]) -> Iterator[int]:
        if isinstance(node, yaml.ScalarNode):
            if self._strict:
                self._scalar(node, above)
            return

        if self._strict:
            self._tag(node, above, "seq" if isinstance(node, yaml.SequenceNode) else "map")
        if isinstance(node, yaml.SequenceNode):
            for number, item in enumerate(node.value):
                yield self.check(item, (*above[:-1], f"{''.join(above[-1:])}[{number}]"))
            return

        keys: set[tuple[str, str]] = set()
        for key, item in node.value:
            dotted = (*above, self._key(key, above))
            if (key.tag, str(key.value)) in keys:
                problem = f"the key once more in line {_line(key)} of {self._path.name}"
                raise refuse(_dotted(dotted), problem, "each key once", "Remove one of them.")
            keys.add((key.tag, str(key.value)))
            yield self.check(item, dotted)

    def _key(self, key: yaml.Node, above: tuple[str, ...]) -> str:
        """Return the key as it is written; UserError unless it is a text in both versions of
        YAML."""
        if not isinstance(key, yaml.ScalarNode):
            raise self._refusal(
                key, above, "a list or section as a key", "a text", f"{_TODO_QUOTES}."
            )
        if not self._strict or key.tag == f"{_TAG}merge":
            return str(key.value)

        where = (*above, key.value)
        if not self._plain(key, where):
            self._tag(key, where, "str")
            return str(key.value)
        readings = _readings(key.value, key.tag)
        if not all(isinstance(reading, str) for reading in readings):
            problem = f"the key {_short(key.value)}, read as {_in_words(readings)}"
            raise self._refusal(
                key, where, problem, "a text as the key", f'{_TODO_QUOTES}: "{_short(key.value)}".'
            )
        return str(key.value)

    def _scalar(self, node: yaml.ScalarNode, where: tuple[str, ...]) -> None:
        if not self._plain(node, where):
            self._tag(node, where, "str")
            return
        readings = _readings(node.value, node.tag)
        if len(readings) == 1:
            return

        old, new = readings
        text = _short(node.value)
        disagree = f"YAML 1.1 reads {_in_words([old])}, YAML 1.2, as DVC does, {_in_words([new])}"
        if isinstance(new, float) and isinstance(old, str):
            todo = (
                f"Write it in full, as {in_full(node.value)}, or in quotes for a text: {disagree}."
            )
            raise self._refusal(node, where, text, "a number", todo)
        expected = "a value that all YAML readers agree on"
        raise self._refusal(
            node, where, text, expected, f"Write it otherwise, or in quotes for a text: {disagree}."
        )

    def _plain(self, node: yaml.ScalarNode, where: tuple[str, ...]) -> bool:
        """Return whether a scalar is without quotes; UserError for a tag, or a type that settings
        do not have."""
        if node.style:
            return False
        if self._brackets and ":" in node.value:
            problem = f"{_short(node.value)}, which has a colon and stands in brackets"
            expected = "a value that DVC can read"
            raise self._refusal(node, where, problem, expected, f"{_TODO_QUOTES}.")
        kind = self._loader.resolve(yaml.ScalarNode, node.value, (True, False)).removeprefix(_TAG)
        self._tag(node, where, kind)

        if kind not in _TYPES:
            name = "date" if kind == "timestamp" else f"tag !!{kind}"
            problem = f"{_short(node.value)}, which YAML reads as a {name}"
            raise self._refusal(
                node, where, problem, "a text, a number, true, false or null", f"{_TODO_QUOTES}."
            )
        if kind == "int" and len(node.value) > _MAX_DIGITS:
            problem = f"{_short(node.value, 30)}, a number of {len(node.value)} digits"
            raise self._refusal(node, where, problem, f"at most {_MAX_DIGITS}")
        return True

    def _tag(self, node: yaml.Node, where: tuple[str, ...], kind: str) -> None:
        if node.tag != _TAG + kind:
            problem = f"the tag {_short(node.tag.replace(_TAG, '!!'))}"
            raise self._refusal(
                node,
                where,
                problem,
                "a value without a tag",
                "Remove the tag; put a text in quotes.",
            )

    def _refusal(
        self, node: yaml.Node, where: tuple[str, ...], got: str, expected: str, todo: str = ""
    ) -> UserError:
        key = _dotted(where) or f"{self._path.name}, line {_line(node)}"
        return refuse(key, got, expected, todo)


def _readings(text: str, tag: str) -> list[Any]:
    """Return the values of a plain scalar here, where its tag is `tag`, and in YAML 1.2.

    One value if they are the same."""
    if _SAME_TEXT.fullmatch(text) and tag == f"{_TAG}str":
        return [text]
    old = _constructed(yaml.constructor.SafeConstructor(), yaml.ScalarNode(tag, text))
    if _SAME_NUMBER.fullmatch(text):
        return [old]
    new = _value_in_dvc(text)
    return [old] if (type(old), repr(old)) == (type(new), repr(new)) else [old, new]


@functools.lru_cache(maxsize=4096)
def _value_in_dvc(text: str) -> Any:
    """Return the value of a plain scalar in YAML 1.2, by the library that DVC uses."""
    from ruamel.yaml import YAML, ScalarNode

    reader = YAML(typ="safe", pure=True)
    tag = reader.resolver.resolve(ScalarNode, text, (True, False))
    return _constructed(reader.constructor, ScalarNode(tag, text))


def _constructed(constructor: Any, node: Any) -> Any:
    """Return the value of the node; a ValueError, not raised, if it has none."""
    try:
        return constructor.construct_object(node)
    except ValueError:
        return ValueError("an error")


def _in_words(readings: list[Any]) -> str:
    """Describe values for a message."""
    return " or ".join(dict.fromkeys(_kind(reading) for reading in readings))


def _kind(reading: Any) -> str:
    if isinstance(reading, str):
        return f"the text {_short(reading)}"
    if isinstance(reading, bool) or reading is None:
        return {True: "true", False: "false", None: "null"}[reading]
    return "an error" if isinstance(reading, ValueError) else f"the number {_short(str(reading))}"


def _line(part: Any) -> int:
    """Return the line in which an event or a node begins, from 1."""
    return int(part.start_mark.line) + 1


def _dotted(words: tuple[str, ...]) -> str:
    return ".".join(_short(word) for word in words)


def _short(text: str, length: int = _SHOWN) -> str:
    return text if len(text) <= length else f"{text[:length]}..."
