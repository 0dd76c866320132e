"""Style of `params.yaml` and the presets, and what a change of one key leaves alone."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fast_yaml
import pytest
import yaml
from dvc.utils.hydra import apply_overrides
from dvc.utils.serialize import modify_yaml

from pipeline.cli import presets

ROOT = Path(__file__).resolve().parents[2]
FILES = [ROOT / "params.yaml", *sorted((ROOT / "presets").glob("*.yaml"))]
YAML_FILES = [*FILES, ROOT / "dvc.yaml", ROOT / "flow.yaml", ROOT / "prefect.yaml"]
each_file = pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)


def leaves(node: object, above: tuple[str, ...] = ()) -> Iterator[tuple[str, object]]:
    """Dotted keys of all values that are no sections."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from leaves(value, (*above, key))
    else:
        yield ".".join(above), node


def sections(node: object, above: tuple[str, ...] = ()) -> Iterator[tuple[str, dict[str, Any]]]:
    """Dotted keys of all sections that DVC changes in place; a list it replaces."""
    if isinstance(node, dict):
        yield ".".join(above), node
        for key, value in node.items():
            yield from sections(value, (*above, key))


def changed_keys(before: str, after: str) -> dict[str, object]:
    old, new = dict(leaves(fast_yaml.load(before))), dict(leaves(fast_yaml.load(after)))
    assert old.keys() == new.keys()
    return {key: new[key] for key in new if new[key] != old[key]}


def some_keys(content: dict[str, Any]) -> list[str]:
    """A merged key, an own key and one two levels down, of the first run and of the last."""
    keys = []
    for name in (next(iter(content["runs"])), next(reversed(content["runs"]))):
        keys += [
            f"runs.{name}.{key}"
            for key in ("training.threads", "training.max_epochs", "optim.schedule.warmup_steps")
        ]
    return keys


@each_file
def test_runs_are_in_block_style(file: Path) -> None:
    root = yaml.compose(file.read_text(encoding="utf-8"), Loader=fast_yaml.LOADER)
    open_nodes = [value for key, value in root.value if key.value in ("runs", "shared")]
    assert open_nodes
    while open_nodes:
        node = open_nodes.pop()
        if isinstance(node, yaml.MappingNode):
            assert not node.flow_style, str(node.start_mark)
            open_nodes += [value for _, value in node.value]


@each_file
def test_no_two_keys_have_one_section(file: Path) -> None:
    """DVC writes all runs one after another: in a section of two runs, the values of the second
    would win."""
    seen: dict[int, str] = {}
    content = fast_yaml.load(file.read_text(encoding="utf-8"))
    for key, section in sections(content):
        assert seen.setdefault(id(section), key) == key, f"{key} is {seen[id(section)]}"


@each_file
def test_experiment_of_one_run_does_not_affect_others(file: Path, tmp_path: Path) -> None:
    """`dvc exp run -S` changes params.yaml by `apply_overrides`."""
    text = file.read_text(encoding="utf-8")
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    keys = some_keys(fast_yaml.load(text))[::2]
    apply_overrides(path, [f"{key}=77" for key in keys])
    assert changed_keys(text, path.read_text(encoding="utf-8")) == dict.fromkeys(keys, 77)


@each_file
def test_a_key_written_through_dvc_changes_one_run(file: Path, tmp_path: Path) -> None:
    text = file.read_text(encoding="utf-8")
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    keys = some_keys(fast_yaml.load(text))
    with modify_yaml(path) as content:
        for key in keys:
            *above, last = key.split(".")
            section = content
            for word in above:
                section = section[word]
            section[last] = 77
    assert changed_keys(text, path.read_text(encoding="utf-8")) == dict.fromkeys(keys, 77)


@each_file
def test_a_key_given_to_use_changes_its_line_and_no_other(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    key = f"runs.{next(reversed(fast_yaml.load(text)['runs']))}.seed"
    after = presets.changed(text, [f"{key}=77"])
    assert changed_keys(text, after) == {key: 77}
    assert [line for line in after.splitlines() if line not in text.splitlines()] == [
        "    seed: 77"
    ]


@pytest.mark.parametrize("file", YAML_FILES, ids=lambda path: path.stem)
def test_lines_have_100_columns_at_most_but_for_addresses(file: Path) -> None:
    lines = file.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if len(line) > 100 and "https://" not in line] == []
