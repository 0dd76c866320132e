"""`seqline use`: presets are whole params files; one replaces `params.yaml` when all of it is in
order, and not before."""

import fnmatch
import io
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.representer import RoundTripRepresenter

from pipeline.cli import prune, validate_params
from pipeline.core import config, yaml_reader
from pipeline.core.atomic import atomic_file
from pipeline.core.errors import refuse


def _null(writer: Any, _: None) -> Any:
    return writer.represent_scalar("tag:yaml.org,2002:null", "null")


class _SayingNull(RoundTripRepresenter):
    """Writes `null` where ruamel.yaml leaves a gap. A class of its own, as DVC writes `dvc.lock` by
    ruamel's."""

    yaml_representers = RoundTripRepresenter.yaml_representers | {type(None): _null}


def listing(root: Path) -> str:
    """Every preset with the first line of its opening comment; the one in params.yaml is marked."""
    now = (
        (root / "params.yaml").read_text(encoding="utf-8")
        if (root / "params.yaml").exists()
        else ""
    )
    lines = []
    for file in _files(root):
        text = file.read_text(encoding="utf-8")
        about = text.partition("\n")[0].lstrip("# ") if text.startswith("#") else ""
        lines.append(f"{'*' if text == now else ' '} {file.stem:12} {about}".rstrip())
    return "\n".join(lines)


def use(root: Path, name: str, changes: list[str], force: bool) -> list[Path]:
    """Put the preset with its changes in params.yaml; returns outputs of other runs, which it
    removed.

    UserError for an unknown name or key, for a change that no stage could use, and for edits that
    would be lost."""
    presets = {file.stem: file for file in _files(root)}
    if name not in presets:
        raise refuse("preset", name, "one of " + ", ".join(presets))
    target = root / "params.yaml"
    if not force:
        _refuse_to_lose(root, target)
    config.read(presets[name])  # which tells in a line what is wrong with it
    text = changed(presets[name].read_text(encoding="utf-8"), changes)
    with atomic_file(target) as beside:
        beside.write_text(text, encoding="utf-8")
        validate_params.check(beside)
    return prune.remove_outputs(root)


def changed(text: str, changes: list[str]) -> str:
    """The YAML `text` with each `dotted.key=value` set, comments kept; a `*` in a key's place fits
    any."""
    if not changes:
        return text
    round_trip = YAML()
    round_trip.width, round_trip.preserve_quotes = 4096, True
    round_trip.indent(mapping=2, sequence=4, offset=2)
    round_trip.Representer = _SayingNull
    content = round_trip.load(text)
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals:
            raise refuse("--set", change, "KEY=VALUE", "For example --set runs.lstm.seed=2.")
        holders = list(_holders(content, key.split(".")))
        if not holders:
            raise refuse(f"--set {key}", "no such key in the preset", "a dotted key of it")
        for holder, last in holders:
            holder[last] = yaml_reader.value(value, f"--set {key}")
    written = io.StringIO()
    round_trip.dump(content, written)
    return written.getvalue()


def _holders(content: Any, words: list[str]) -> Iterator[tuple[Any, str]]:
    """Every mapping, with a key of it, that the dotted pattern leads to."""
    if not isinstance(content, Mapping):
        return
    for key in content:
        if fnmatch.fnmatchcase(str(key), words[0]):
            if len(words) == 1:
                yield content, key
            else:
                yield from _holders(content[key], words[1:])


def _files(root: Path) -> list[Path]:
    return sorted(
        (root / "presets").glob("*.yaml"), key=lambda file: (file.stem != "default", file.stem)
    )


def _refuse_to_lose(root: Path, target: Path) -> None:
    """Refuse if `target` is neither as committed nor as a preset has it."""
    if not target.exists():
        return
    now = target.read_bytes()
    committed = subprocess.run(["git", "show", "HEAD:./params.yaml"], cwd=root, capture_output=True)
    safe = [file.read_bytes() for file in _files(root)] + (
        [committed.stdout] if committed.returncode == 0 else []
    )
    if now not in safe:
        raise refuse(
            "params.yaml",
            "edits that are in no commit and no preset",
            "nothing that would be lost",
            "Commit them, or add --force.",
        )
