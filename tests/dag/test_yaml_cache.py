"""YAML files of DVC that are parsed once: the same content as by DVC's own parser."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dvc.utils.serialize import ParseError
from dvc.utils.serialize._yaml import parse_yaml

from pipeline.dag.yaml_cache import YamlCache

ROOT = Path(__file__).resolve().parents[2]
HEAD = "schema: '2.0'\nstages:\n"


class Counter:
    """DVC's parser, and the texts that it was called with."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def __call__(self, text: str, path: Any, typ: str = "safe") -> Any:
        self.texts.append(text)
        return parse_yaml(text, path, typ)


@pytest.fixture
def counter() -> Counter:
    return Counter()


@pytest.fixture
def parse(counter: Counter) -> Callable[..., Any]:
    return YamlCache(counter).parse


@pytest.mark.long
@pytest.mark.parametrize("name", ["dvc.lock", "dvc.yaml", "params.yaml", "flow.yaml"])
def test_content_is_that_of_dvc_each_time(name: str, parse: Callable[..., Any]) -> None:
    text = (ROOT / name).read_text()
    expected = parse_yaml(text, name)
    for _ in range(2):
        content = parse(text, name)
        assert content == expected
        assert list(content) == list(expected)
        content.clear()


def test_each_text_is_parsed_once(parse: Callable[..., Any], counter: Counter) -> None:
    for _ in range(3):
        assert parse("a: {b: 1}", "file") == {"a": {"b": 1}}
    assert counter.texts == ["a: {b: 1}"]


def test_an_inner_part_may_be_changed(parse: Callable[..., Any]) -> None:
    parse("a: {b: 1}", "file")["a"]["b"] = 2
    assert parse("a: {b: 1}", "file") == {"a": {"b": 1}}


def test_only_new_parts_of_a_lock_are_parsed(parse: Callable[..., Any], counter: Counter) -> None:
    first = "  a:\n    cmd: one\n"
    second = "  b:\n    cmd: two\n"
    parse(HEAD + first, "dvc.lock")
    counter.texts.clear()
    content = parse(HEAD + second + first, "dvc.lock")
    assert content == {"schema": "2.0", "stages": {"b": {"cmd": "two"}, "a": {"cmd": "one"}}}
    assert list(content["stages"]) == ["b", "a"]
    assert counter.texts == [HEAD + second]


def test_read_ahead_leaves_nothing_to_parse(tmp_path: Path, counter: Counter) -> None:
    lock = tmp_path / "dvc.lock"
    cache = YamlCache(counter)
    cache.read_ahead(lock)
    lock.write_text(HEAD + "  a:\n    cmd: one\n")
    cache.read_ahead(lock)
    counter.texts.clear()
    assert cache.parse(lock.read_text(), lock)["stages"] == {"a": {"cmd": "one"}}
    assert counter.texts == []


@pytest.mark.parametrize(
    "text",
    [
        HEAD + "  a: &id001\n    cmd: one\n  b:\n    cmd: two\n    also: *id001\n",
        HEAD + "  a:\n    cmd: 'two\n      lines'\n  b:\n    cmd: |-\n      three\n      lines\n",
        HEAD + "  a:\n    cmd: one\n  a:\n    cmd: two\n",
        HEAD + "  a: {cmd: one}\n",
        HEAD,
        "schema: '2.0'\n",
        "",
        "- 1\n- 2020-01-01\n- 0o10\n- 1e3\n- no\n",
        "a: &x {b: 1}\nc: *x\n",
    ],
)
def test_unusual_texts_are_parsed_as_by_dvc(text: str, parse: Callable[..., Any]) -> None:
    try:
        expected = parse_yaml(text, "file")
    except ParseError as error:
        with pytest.raises(type(error)):
            parse(text, "file")
    else:
        assert parse(text, "file") == parse(text, "file") == expected


@pytest.mark.parametrize("text", [HEAD + "  a:\n    cmd: [\n", "a: ]"])
def test_errors_are_those_of_dvc(text: str, parse: Callable[..., Any]) -> None:
    for _ in range(2):
        with pytest.raises(ParseError) as error:
            parse(text, "file")
    with pytest.raises(ParseError) as expected:
        parse_yaml(text, "file")
    assert str(error.value) == str(expected.value)
    assert str(error.value.__cause__) == str(expected.value.__cause__)


def test_round_trip_parsing_keeps_comments(parse: Callable[..., Any]) -> None:
    parse("a: 1 # one\n", "file")
    assert "# one" in str(parse("a: 1 # one\n", "file", typ="rt").ca.items)
