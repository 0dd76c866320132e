"""`seqline use`: presets are whole params files; one replaces `params.yaml` when all of it is in
order, and not before.

The preset `default` is no file in `presets/`, as that would be a second copy of `params.yaml`: git
has its text."""

import fnmatch
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.cli import params_text, params_values, prune
from pipeline.cli.seeds import with_seeds
from pipeline.core import config, git, renamed_keys, yaml_reader
from pipeline.core.atomic import atomic_file
from pipeline.core.errors import refuse
from pipeline.core.params import SHARED

DEFAULT = "default"
DEFAULT_TITLE = b"# The default preset"  # how the first line of the default params.yaml begins


def listing(root: Path) -> str:
    """Every preset with the first line of its opening comment; the one in params.yaml is marked."""
    current = (root / "params.yaml").read_bytes() if (root / "params.yaml").exists() else b""
    lines = []
    for name, content in contents(root).items():
        first = content.decode("utf-8", "replace").partition("\n")[0]
        about = first.lstrip("# ") if first.startswith("#") else ""
        lines.append(f"{'*' if content == current else ' '} {name:12} {about}".rstrip())
    return "\n".join(lines)


def use(root: Path, name: str, changes: list[str], seeds: list[str], force: bool) -> list[Path]:
    """Put the preset with its changes in params.yaml; returns outputs of other runs, which it
    removed.

    UserError for an unknown name or key, for a change that no stage could use, and for edits that
    would be lost."""
    from pipeline.cli import validate_params  # imports torch, which a list of names does not need

    presets = contents(root)
    if name not in presets:
        todo = ""
        if name == DEFAULT:
            todo = (
                "No commit here has the default params.yaml; in a shallow clone, run `git "
                "fetch --unshallow`."
            )
        raise refuse("preset", name, "one of " + ", ".join(presets), todo)
    target, file = root / "params.yaml", root / "presets" / f"{name}.yaml"
    if not force and not is_saved(root):
        raise refuse(
            "params.yaml",
            "edits that are in no commit and no preset",
            "nothing that would be lost",
            "Commit them, or add --force.",
        )

    # Read the text strictly first: a UserError names the line of a fault.
    text = presets[name].decode("utf-8", "replace")
    if file.exists():
        config.read(file)
    else:
        yaml_reader.value(text, "the committed params.yaml")
    text = changed(text, changes)

    with atomic_file(target) as temporary:
        # Checked before the context ends, as only then it replaces params.yaml.
        temporary.write_text(text, encoding="utf-8")
        validate_params.check(temporary)
        if seeds:
            temporary.write_text(with_seeds(text, seeds), encoding="utf-8")
            validate_params.check(temporary)
    return prune.remove_outputs(root)


def is_saved(root: Path) -> bool:
    """Return whether a preset or the last commit has params.yaml as it is; also if it is absent."""
    target = root / "params.yaml"
    committed = git.output(root, "show", "HEAD:./params.yaml")
    return not target.exists() or target.read_bytes() in (*contents(root).values(), committed)


def with_other_title(text: str) -> str:
    """Return the text of the default preset as one that `default` takes for no default; another
    text stays as it is."""
    title = DEFAULT_TITLE.decode()
    return f"# Part of the{text.removeprefix('# The')}" if text.startswith(title) else text


def changed(text: str, changes: list[str]) -> str:
    """Return the YAML `text` with each `dotted.key=value` set, comments kept; a `*` in a key's
    place fits any. No other key changes, but for those that merge a changed block of `shared`.

    UserError for a change without a value, for an unknown key, and for values of broken YAML."""
    if not changes:
        return text

    content = yaml_reader.value(text, "the preset")
    if next(_changes({SHARED: content.get(SHARED)}, changes), None):
        text = params_text.edited(text, lambda content: _change_shared(content, changes))
        content = yaml_reader.value(text, "the preset")
    target = params_values.unshared(content)
    for change in changes:
        places = list(_changes(target, [change]))
        key = change.partition("=")[0]
        if not places and (new := renamed_keys.new_name(key)) is not None:
            raise renamed_keys.refuse_old_key(f"--set {key}", new)
        if not places:
            raise refuse(f"--set {key}", "no such key in the preset", "a dotted key of it")
        for holder, last, value in places:
            holder[last] = value
    return params_values.with_values(text, target, "the preset", "Change the file by hand.")


def _change_shared(content: Any, changes: list[str]) -> None:
    for holder, last, value in _changes({SHARED: content[SHARED]}, changes):
        holder[last] = params_text.styled(value)


def _changes(content: Any, changes: list[str]) -> Iterator[tuple[Any, str, Any]]:
    """Yield every mapping, with a key of it and its new value, that the changes lead to; UserError
    for a change without a value."""
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals:
            raise refuse(
                "--set", change, "KEY=VALUE", "For example --set settings.lstm.model.hidden=256."
            )
        for holder, last in _holders(content, key.split(".")):
            yield holder, last, yaml_reader.value(value, f"--set {key}")


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


def default(root: Path) -> bytes | None:
    """Return the default `params.yaml` as last committed; None if no commit has one.

    An older commit has it after another preset was committed as `params.yaml`: the first line tells
    them apart."""
    commits = git.text_output(root, "rev-list", "HEAD", "--", "params.yaml")
    for commit in commits.split():
        content = git.output(root, "show", f"{commit}:./params.yaml")
        if content is not None and content.startswith(DEFAULT_TITLE):
            return content
    return None


def contents(root: Path) -> dict[str, bytes]:
    """Content of every preset by its name, the default one first."""
    files = {file.stem: file.read_bytes() for file in sorted((root / "presets").glob("*.yaml"))}
    content = files.pop(DEFAULT, None) or default(root)
    return files if content is None else {DEFAULT: content} | files
