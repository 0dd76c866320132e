"""Keys of `params.yaml` and `flow.yaml` that have a new name.

An old key is refused in one line that names the new one. Blocks that older versions of the project
wrote (the `config.json` of a model, a version in MLflow's registry) are upgraded instead."""

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.core.errors import UserError, refuse
from pipeline.core.mistakes import Mistakes

RENAMED = {
    "corpora.*.bleu": "bleu_tokenizer",
    "corpora.*.read.judges": "benchmarks",
    "runs.*.start": "init_from",
    "settings.*.objective.block": "block_size",
    "settings.*.objective.noise": "noise_words",
    "gate.guards.*.words_guessed": "mlm_accuracy",
    "gate.guards.*.pairs_guessed": "nsp_accuracy",
    "gate.guards.*.covered": "coverage",
}
"""By dotted path of the old key, the last part of its new path; `*` is the name of a block."""

# Recorded runs have the keys of their setting in one block.
_IN_BLOCKS = RENAMED | {
    old.replace("settings.", "runs."): new
    for old, new in RENAMED.items()
    if old.startswith("settings.")
}


def new_name(key: str) -> str | None:
    """Return the new path of the dotted `key`; None if it was not renamed.

    Parts of `key` may be patterns of names, as in `runs.*.start`."""
    words = key.split(".")
    for old, new in RENAMED.items():
        parts = old.split(".")
        if len(parts) == len(words) and all(
            part in ("*", word) for part, word in zip(parts, words, strict=True)
        ):
            return ".".join([*words[:-1], new])
    return None


def refuse_old_keys(content: Mapping[Any, Any]) -> None:
    """Raise UserError for all renamed keys in the content of a settings file."""
    mistakes = Mistakes()
    for old in RENAMED:
        for _, key, where in _matches(content, old.split("."), ()):
            path = ".".join([*where, key])
            with mistakes.collect():
                raise refuse_old_key(path, str(new_name(path)))
    mistakes.refuse()


def refuse_old_key(where: str, new: str) -> UserError:
    """Return the error for an old key at `where`, to be raised; `new` is its new path."""
    return refuse(where, "a key that was renamed", f"its new name, {new}", "Rename the key.")


def upgrade(section: str, block: Mapping[str, Any]) -> dict[str, Any]:
    """Copy a block of the section, such as `runs`, with new names for its old keys."""
    upgraded: dict[str, Any] = _copy(block)
    content = {section: {"block": upgraded}}
    for old, new in _IN_BLOCKS.items():
        for holder, key, _ in list(_matches(content, old.split("."), ())):
            value = holder.pop(key)
            holder.setdefault(new, value)
    return upgraded


def _matches(
    content: Any, parts: list[str], where: tuple[str, ...]
) -> Iterator[tuple[Any, str, tuple[str, ...]]]:
    """Yield every mapping with a key at the path `parts`: the mapping, the key, and its place."""
    if not isinstance(content, Mapping):
        return
    first, *rest = parts
    for key in list(content) if first == "*" else [first] if first in content else []:
        if rest:
            yield from _matches(content[key], rest, (*where, str(key)))
        else:
            yield content, key, where


def _copy(content: Any) -> Any:
    """Copy nested mappings, whose other values are shared."""
    if isinstance(content, Mapping):
        return {key: _copy(value) for key, value in content.items()}
    return content
