"""A setting on a corpus as its runs were trained, which identifies their parent run in MLflow.

No mlflow here."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.core.params import SETTING_KEYS
from pipeline.tracking import describe

_SAFE_NAME = re.compile(r"[\w.-]{1,200}", re.ASCII)  # the name is part of a search in MLflow
_SOURCE_KEY = re.compile(r"corpus_settings\.source(\.|$)")
_UNTRAINED_KEYS = {"search"}  # training ignores it: runs with another search are the same runs
TAG_LENGTH = 12  # letters of a digest in the tag, which MLflow's pages show


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """A setting on a corpus, as its runs were trained; `params` and `corpus` are MLflow's params by
    name, the second those of the corpus without its source.

    `label` says what differs from the committed setting (`run_names.label`)."""

    name: str
    task: str
    params: dict[str, str]
    corpus: dict[str, str] = field(default_factory=dict)
    label: str = field(default="", compare=False)

    @property
    def title(self) -> str:
        """The name, and what differs from the committed setting: `lstm hidden=512`."""
        return f"{self.name} {self.label}".strip()

    @property
    def digest(self) -> str:
        return _digest([self.name, self.params, self.corpus])

    @property
    def tag(self) -> str:
        """The beginning of the digest, which identifies the setting among those of its name."""
        return self.digest[:TAG_LENGTH]

    @property
    def former_tag(self) -> str:
        """The tag of older versions, which left the corpus's settings out."""
        return _digest([self.name, self.params])[:TAG_LENGTH]

    @property
    def key(self) -> tuple[str, str]:
        """The key of the parent's lock (`run_lock.sole`)."""
        return self.name, self.digest


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def setting_of(
    run: str, block: Mapping[str, Any], corpus: Mapping[str, str], label: str = ""
) -> Setting | None:
    """Return the setting of a run by its block, and `describe.corpus_settings` of its corpus; None
    if the block does not name what a parent needs.

    The same data from another place (`source`) are the same corpus.

    A block of an older version names no setting: it has that of its run."""
    name = str(block.get("setting") or run)
    kind = {key: str(block[key]) for key in ("family", "task", "corpus") if block.get(key)}
    if len(kind) < 3 or not _SAFE_NAME.fullmatch(name):
        return None
    trained = {key: block[key] for key in SETTING_KEYS if key in block}
    trained = {key: value for key, value in trained.items() if key not in _UNTRAINED_KEYS}
    params = describe.flatten_texts(kind | trained)
    read = without_source(corpus)
    return Setting(name=name, task=kind["task"], params=params, corpus=read, label=label)


def without_source(corpus: Mapping[str, str]) -> dict[str, str]:
    """Return params of a corpus without those that say where it is from."""
    return {key: value for key, value in corpus.items() if not _SOURCE_KEY.match(key)}
