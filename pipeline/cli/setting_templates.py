"""Settings of the presets, from which `seqline add` writes new ones."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.cli import presets
from pipeline.core import config, yaml_reader
from pipeline.core.errors import not_utf8, refuse
from pipeline.corpora import kind_of

# Keys that blocks of a preset must have, by section.
_KEYS = {
    "corpora": {"format", "read"},
    "settings": {"model", "objective", "optim", "training", "search"},
    "runs": {"setting", "family", "task", "corpus", "init_from"},
}


@dataclass(frozen=True, slots=True)
class Template:
    """A setting of a preset, resolved, with the task of its runs.

    `is_guessed`: the block `model:` is guessed, for a family of the user's own. `is_chosen`: the
    user chose it, so it keeps its sizes."""

    preset: str
    setting: dict[str, Any]
    task: str
    name: str
    is_guessed: bool = False
    is_chosen: bool = False


def families(root: Path) -> set[str]:
    """Families that a preset has a run of."""
    files = presets.contents(root).items()
    return {run["family"] for name, text in files for run in _content(name, text)["runs"].values()}


def templates(root: Path, kinds: Sequence[str]) -> Iterator[tuple[Template, str, str]]:
    """Settings of the presets on corpora of the kinds, each with the family and `init_from` of its
    first run."""
    for name, text in presets.contents(root).items():
        content = _content(name, text)
        fitting = {
            key for key, block in content["corpora"].items() if kind_of_block(block) in kinds
        }
        seen = set()
        for run in content["runs"].values():
            if run["setting"] in seen or run["corpus"] not in fitting:
                continue
            seen.add(run["setting"])
            setting = content["settings"][run["setting"]]
            template = Template(name, setting, run["task"], run["setting"])
            yield template, run["family"], run["init_from"]


@cache
def _content(name: str, text: bytes) -> Any:
    """The content of a preset; UserError, which names its file, for one that is unfinished."""
    where = "the committed params.yaml" if name == presets.DEFAULT else f"presets/{name}.yaml"
    if refusal := not_utf8(where, text):
        raise refusal
    content = yaml_reader.value(text.decode("utf-8-sig"), where)
    todo = "Complete the preset, or move it to another folder."
    for section, keys in _KEYS.items():
        blocks = content.get(section) if isinstance(content, Mapping) else None
        if not isinstance(blocks, Mapping):
            raise refuse(f"{where}, {section}", blocks, "a section with blocks", todo)
        for block_name, block in blocks.items():
            if not isinstance(block, Mapping) or not keys <= block.keys():
                expected = f"a section with the keys {', '.join(sorted(keys))}"
                raise refuse(f"{where}, {section}.{block_name}", block, expected, todo)
    for run_name, run in content["runs"].items():
        if run["setting"] not in content["settings"]:
            expected = "a setting of the preset"
            raise refuse(f"{where}, runs.{run_name}.setting", run["setting"], expected, todo)
    return content


def kind_of_block(block: Mapping[str, Any]) -> str:
    """The kind of a block under `corpora:`."""
    reader = config.named_module("pipeline.corpora", block["format"], "format")
    return kind_of(reader, config.load(reader.Config, block["read"], "read"))
