"""The ledger of challenges in MLflow's registry, shared by all machines that use its server.

A share is spent when its record is written, before the test. A challenge that is killed afterwards
and repeated finds its record and spends nothing more. Two machines that challenge at the same time
both write before they read. So each sees the other's record, and a test set never spends more than
its level. If both ask for its last share, both may be refused."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.promotion.alpha_spending import Allocation, Challenge, TestSet, allocate
from pipeline.promotion.settings import Settings
from pipeline.tracking import challenge_tags
from pipeline.tracking.challenge_tags import Records, Writer

_ATTEMPTS = 3  # to reserve a share while other machines reserve theirs


@dataclass(frozen=True, slots=True)
class RegistryLedger:
    """The challenges of the registered model `name`.

    `pair` identifies the present one: both contenders, and the settings that its p-value depends
    on. The same pair on the same test sets is the same challenge."""

    root: Path
    name: str
    settings: Settings
    pair: str

    def quote(self, test_sets: Sequence[TestSet]) -> Allocation:
        """The allocation that `reserve` would return now; UserError if the store does not
        answer."""
        return self._quote(challenge_tags.read(self.root, self.name), test_sets)

    def reserve(self, test_sets: Sequence[TestSet]) -> Allocation:
        """Spend the share of this challenge, unless it has done so before; UserError if the store
        does not answer."""
        key = self._key(test_sets)
        with challenge_tags.open_records(self.root, self.name) as records:
            for _ in range(_ATTEMPTS):
                before = records.read()
                allocation = self._quote(before, test_sets)
                if allocation.repeated or allocation.is_spent:
                    return allocation
                _write(records, before, key, allocation, test_sets)

                # Another machine may have spent the last share in the meantime.
                others = _others(records.read(), key)
                open_sets = allocate(self.settings, *others, test_sets).test_sets
                if set(allocation.test_sets) <= set(open_sets):
                    return allocation
                records.remove_challenge(key)
        return dataclasses.replace(allocation, test_sets=())

    def _quote(self, records: Records, test_sets: Sequence[TestSet]) -> Allocation:
        key = self._key(test_sets)
        allocation = allocate(self.settings, *_others(records, key), test_sets)
        earlier = parse(records).get(key)
        if earlier is None:
            return allocation
        return dataclasses.replace(
            allocation,
            level=earlier.level,
            number=earlier.number,
            repeated=True,
            test_sets=earlier.test_sets,
        )

    def _key(self, test_sets: Sequence[TestSet]) -> str:
        parts = [self.pair, sorted(test_set.digest for test_set in test_sets)]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def parse(records: Records) -> dict[str, Challenge]:
    """The challenges by key, in order of time; records that seqline did not write are skipped."""
    challenges = {
        key: challenge
        for key, content in records.challenges.items()
        if (challenge := _challenge(content)) is not None
    }
    return dict(sorted(challenges.items(), key=lambda item: (item[1].at, item[0])))


def known_test_sets(records: Records) -> dict[str, TestSet]:
    """The recorded test sets by md5; one whose description is damaged is left out."""
    known = {}
    for digest, text in records.test_sets.items():
        try:
            known[digest] = TestSet.decode(digest, text)
        except ValueError:
            continue
    return known


def _others(records: Records, key: str) -> tuple[list[Challenge], dict[str, TestSet]]:
    """All challenges but that of the key, and the test sets that are known."""
    others = [challenge for other, challenge in parse(records).items() if other != key]
    return others, known_test_sets(records)


def _write(
    records: Writer,
    before: Records,
    key: str,
    allocation: Allocation,
    test_sets: Sequence[TestSet],
) -> None:
    """Record the challenge; its test sets first, since an unknown one counts as every test set."""
    for test_set in test_sets:
        if test_set.digest not in before.test_sets:
            records.write_test_set(test_set.digest, test_set.encode())
    challenge = Challenge(
        level=allocation.level,
        number=allocation.number or 1,
        test_sets=allocation.test_sets,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    records.write_challenge(key, dataclasses.asdict(challenge))


def _challenge(content: Mapping[str, Any]) -> Challenge | None:
    """Read a record; None if it is not one of `_write`."""
    level = content.get("level")
    number = content.get("number")
    test_sets = content.get("test_sets")
    at = content.get("at")

    # Others can write to a shared registry.
    if not isinstance(level, int | float) or level < 0 or not isinstance(number, int):
        return None
    if not isinstance(test_sets, list) or not all(isinstance(one, str) for one in test_sets):
        return None
    if not isinstance(at, str):
        return None
    return Challenge(level=float(level), number=number, test_sets=tuple(test_sets), at=at)
