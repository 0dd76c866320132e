"""Names that tell settings apart: a run's name, and what differs from the committed params.yaml.

E.g. `transformer-1 heads=8`, of `dvc exp run -S settings.transformer.model.heads=8`; once it is
evaluated, `95.90 · transformer-1 heads=8`. No mlflow here."""

import json
import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.core import git, yaml_reader
from pipeline.core.errors import UserError
from pipeline.core.params import SETTING_KEYS
from pipeline.tracking import describe

_MAX_LABEL = 60
_MAX_VALUE = 24
# keys that training does not read
_UNTRAINED = {"search", "samples", "bleu_tokenizer"}
_JOINT = " · "
_LABEL = re.compile(r"(?: \S+=.*| [0-9a-f]{8})?", re.DOTALL)
_SCORE = re.compile(rf"-?(?:\d[\d.]*|inf|nan){_JOINT}")


def with_score(name: str, score: str) -> str:
    """Put a score before a name in place of the one that it has; none for the score "".

    MLflow's default table has no column for a score, and shows the first twenty characters of a
    name."""
    return f"{score}{_JOINT}{without_score(name)}" if score else without_score(name)


def without_score(name: str) -> str:
    """The name without the score before it."""
    score = _SCORE.match(name)
    return name[score.end() :] if score else name


def is_generated(name: str, base: str) -> bool:
    """Return whether seqline gave this name to the run or setting `base`, with or without a score
    and a label. Else somebody chose it on MLflow's pages."""
    title = without_score(name)
    return title.startswith(base) and _LABEL.fullmatch(title[len(base) :]) is not None


def committed_params(root: Path, revision: str | None = None) -> dict[str, Any]:
    """Read params.yaml as committed in a revision; empty without one that can be read.

    The default is the baseline of the experiment that DVC runs, else HEAD."""
    revision = revision or os.environ.get("DVC_EXP_BASELINE_REV") or "HEAD"
    text = git.text_output(root, "show", f"{revision}:./params.yaml")
    with suppress(UserError):
        content = yaml_reader.value(text, f"params.yaml of {revision}")
        if isinstance(content, dict):
            return content
    return {}


def label(
    run: str, block: Mapping[str, Any], corpus: Mapping[str, Any], committed: Mapping[str, Any]
) -> str:
    """Return what differs in the run's `block` and its corpus's from the `committed` params.yaml,
    e.g. `heads=8 width=128`; "" if nothing does, or if the run's setting is not committed.

    `block` has the keys of `params.Run`."""
    sections = [committed.get(name) for name in ("runs", "settings", "corpora")]
    if not all(isinstance(section, Mapping) for section in sections):
        return ""
    runs, settings, corpora = (section or {} for section in sections)
    setting = settings.get(block.get("setting"))
    if not isinstance(setting, Mapping):
        return ""

    # A further seed of a committed setting has no committed run.
    entry = runs.get(run)
    entry = entry if isinstance(entry, Mapping) else {}
    now = {key: block[key] for key in (*SETTING_KEYS, *entry) if key in block}
    then = {**setting, **entry}
    committed_corpus = corpora.get(block.get("corpus"))
    if corpus and isinstance(committed_corpus, Mapping):
        now["corpus_settings"], then["corpus_settings"] = corpus, committed_corpus
    return differences(_flat(now), _flat(then))


def _flat(values: Mapping[str, Any]) -> dict[str, str]:
    """Texts of the values that training reads, by dotted key."""
    leaves = describe.flatten(values)
    return {
        ".".join(keys): value if isinstance(value, str) else json.dumps(value, default=str)
        for keys, value in leaves
        if not _UNTRAINED & set(keys[:2])
    }


def differences(values: Mapping[str, str], reference: Mapping[str, str]) -> str:
    """Return `key=value` for what is different in `reference`, with keys as short as is clear; what
    does not fit is counted."""
    names = _short_names(set(values) | set(reference))
    words = [
        f"{names[key]}={value[:_MAX_VALUE]}"
        for key, value in values.items()
        if reference.get(key) != value
    ]

    fitting: list[str] = []
    for word in words:
        if fitting and len(" ".join([*fitting, word])) > _MAX_LABEL:
            return f"{' '.join(fitting)} +{len(words) - len(fitting)}"
        fitting.append(word)
    return " ".join(fitting)


def _short_names(keys: Iterable[str]) -> dict[str, str]:
    """The shortest end of each dotted key that no other key has, e.g. `heads` of `model.heads`."""
    ends: dict[str, list[str]] = {}
    for key in keys:
        parts = key.split(".")
        for count in range(1, len(parts) + 1):
            ends.setdefault(".".join(parts[-count:]), []).append(key)
    shortest: dict[str, str] = {}
    for end in sorted(ends, key=lambda end: end.count(".")):
        # The whole key is its own, even where it ends another.
        for key in ends[end] if len(ends[end]) == 1 else [end] if end in ends[end] else []:
            shortest.setdefault(key, end)
    return shortest
