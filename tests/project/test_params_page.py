"""docs/params.md has every key of params.yaml, and no other."""

import dataclasses
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.cli import params_page
from pipeline.core import config, params

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/params.md").read_text(encoding="utf-8")
BLOCKS = [
    (package, name)
    for package in ("corpora", "models", "tasks", "decoding")
    for name in config.module_names(f"pipeline.{package}")
]
# Keys that users choose: names of blocks, splits, labels and n-gram models.
NAMES = re.compile(
    r"(corpora|settings|runs)\.[^.]+|.*\.(sizes|files|folders|ngrams|shared)(\.[^.]+)+|.*\.<<.*"
)


def documented(heading: str) -> set[str]:
    """Keys of the tables below a heading, up to the next one."""
    [part] = re.findall(
        rf"^(?:#+ {re.escape(heading)})\n(.*?)(?=^#|\Z)", PAGE, re.DOTALL | re.MULTILINE
    )
    return set(re.findall(r"^\| `(\w+)` \|", part, re.MULTILINE))


def test_the_page_is_up_to_date() -> None:
    assert params_page.page() == PAGE, "run: python -m pipeline.cli.params_page > docs/params.md"


def test_every_key_has_a_meaning() -> None:
    assert params_page.undescribed() == []


@pytest.mark.parametrize(("package", "name"), BLOCKS)
def test_the_keys_of_each_block_are_those_of_its_dataclasses(package: str, name: str) -> None:
    module = importlib.import_module(f"pipeline.{package}.{name}")
    kinds = getattr(module, "OBJECTIVES", None) or [module.Config]
    assert documented(name) == {field.name for kind in kinds for field in dataclasses.fields(kind)}


@pytest.mark.parametrize("section", ["compute", "evaluation"])
def test_the_keys_of_a_section_are_those_of_params_yaml(section: str) -> None:
    content = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    assert documented(section) == set(content[section])


def test_every_section_and_every_key_of_a_preset_is_on_the_page() -> None:
    assert all(f"\n## {name}\n" in PAGE for name in params.SECTIONS if name != params.SHARED)
    known = set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))
    known |= {"builtin", "grammar", "files", "bundle", *params.SECTIONS}
    for path in [ROOT / "params.yaml", *sorted((ROOT / "presets").glob("*.yaml"))]:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        content.pop(params.SHARED, None)
        unknown = {key for key, dotted in _keys(content) if key not in known}
        assert unknown == set(), path.name


def _keys(value: Any, above: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, list):
        for item in value:
            yield from _keys(item, above)
    elif isinstance(value, dict):
        for key, item in value.items():
            dotted = f"{above}.{key}" if above else str(key)
            if not NAMES.fullmatch(dotted):
                yield str(key), dotted
            yield from _keys(item, dotted)
