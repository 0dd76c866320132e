"""Records of challenges, in tags of a registered model: what they have spent of which test set.

Each challenge is a tag of its own, and so is each test set. So two machines that share a server
never overwrite each other's records, and a record is complete or absent. The content belongs to
`pipeline.promotion.alpha_spending`; here it is a mapping."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core.locks import file_lock
from pipeline.tracking import mlflow_store, registry_store, run_lock

_CHALLENGE = "challenge."  # prefix of a challenge's tag; its key follows
_TEST_SET = "test_set."  # prefix of a test set's tag; its md5 follows


@dataclass(frozen=True, slots=True)
class Records:
    """Challenges by key, and the descriptions of test sets by md5."""

    challenges: Mapping[str, Mapping[str, Any]]
    test_sets: Mapping[str, str]


def read(root: Path, name: str) -> Records:
    """Records of the registered model; none if it does not exist. Tags of others are skipped."""
    with mlflow_store.open_store(root) as client:
        if name not in registry_store.model_names(client):
            return Records({}, {})
        return _read(client, name)


class Writer:
    """Access to the records of one registered model, for `open_records`."""

    def __init__(self, client: Any, name: str) -> None:
        self._client = client
        self._name = name

    def read(self) -> Records:
        """The records as they are now, those of other machines among them."""
        return _read(self._client, self._name)

    def write_test_set(self, digest: str, description: str) -> None:
        """Record a test set."""
        self._client.set_registered_model_tag(self._name, f"{_TEST_SET}{digest}", description)

    def write_challenge(self, key: str, content: Mapping[str, Any]) -> None:
        """Record a challenge; the record of the same key is replaced."""
        text = json.dumps(content, ensure_ascii=False)
        self._client.set_registered_model_tag(self._name, f"{_CHALLENGE}{key}", text)

    def remove_challenge(self, key: str) -> None:
        """Remove the record of a challenge that did not take place."""
        self._client.delete_registered_model_tag(self._name, f"{_CHALLENGE}{key}")


@contextmanager
def open_records(root: Path, name: str) -> Iterator[Writer]:
    """Yield the records of the registered model, under the lock of this machine's registry.

    Other machines may write at the same time: read again what was written. UserError if the store
    does not answer."""
    with mlflow_store.open_store(root) as client, file_lock(run_lock.locks(root) / "registry.lock"):
        yield Writer(client, name)


def _read(client: Any, name: str) -> Records:
    tags = registry_store.get_model(client, name).tags
    contents = {
        key.removeprefix(_CHALLENGE): registry_store.parse_tag(text)
        for key, text in tags.items()
        if key.startswith(_CHALLENGE)
    }
    return Records(
        challenges={key: content for key, content in contents.items() if content},
        test_sets={
            key.removeprefix(_TEST_SET): text
            for key, text in tags.items()
            if key.startswith(_TEST_SET)
        },
    )
