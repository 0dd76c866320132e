"""Alpha spending: the level of each challenge, so that few test sets ever promote by chance.

Every night's challenger is a test on the same rows. Tested at 0.05 each, 365 challengers that are
no better contain a false promotion almost surely. So the gate's `level` is a budget of a test set,
and each challenge spends `level / challenges` of it: alpha spending (Lan & DeMets 1983) with equal
shares, for a sequence of tests as in Tian & Ramdas 2021, "Online control of the familywise error
rate".

The bound. Let a challenge be tested at the share s = level / challenges. If its challenger is no
better, the chance of a promotion is at most s, whatever the earlier ones were. A test set serves
while the shares spent on it are at most `level`. By the union bound,
- over the life of a test set, and over all champions in it, and
- over any `challenges` in a row, on whatever test sets,
the chance of any false promotion is at most `level`. The bound needs no independence: champion and
test set are the same every night. It assumes that challengers are made without their scores on
the test set.

Equal shares are best if nobody knows when a better challenger comes: power is a concave function of
the level (Lehmann & Romano 2005, section 3.2), so that its mean over the nights is largest for
equal levels. docs/log.md has the alternatives with figures.

A test set is new if it shares less than a tenth of its rows with one that was used before.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pipeline.promotion.settings import Settings
from pipeline.text.splits import Digests

_SKETCHED = 128  # rows in a sketch
_BYTES = 5  # of each row's digest
_SAME = 0.1  # share of common rows from which two test sets count as one
_ROUNDING = 1e-9  # relative: sums of equal shares are rounded


@dataclass(frozen=True, slots=True)
class TestSet:
    """A test set: the md5 of its files, and a sketch of its rows.

    `sketch` holds the lowest 40-bit digests of the rows, ascending (Broder 1997, "On the
    resemblance and containment of documents")."""

    __test__ = False  # no test class of pytest's

    digest: str
    sketch: tuple[int, ...]

    @classmethod
    def of(cls, digest: str, rows: Digests) -> "TestSet":
        """`rows` has the 64-bit digest of each row."""
        lowest = np.unique(rows >> np.uint64(64 - 8 * _BYTES))[:_SKETCHED]
        return cls(digest, tuple(int(row) for row in lowest))

    @classmethod
    def decode(cls, digest: str, text: str) -> "TestSet":
        """Inverse of `encode`; ValueError for a text that `encode` has not written."""
        content = base64.b64decode(text, validate=True)
        rows = [content[start : start + _BYTES] for start in range(0, len(content), _BYTES)]
        return cls(digest, tuple(int.from_bytes(row, "big") for row in rows))

    def encode(self) -> str:
        """The sketch as text."""
        content = b"".join(row.to_bytes(_BYTES, "big") for row in self.sketch)
        return base64.b64encode(content).decode()

    def overlaps(self, other: "TestSet") -> bool:
        """Whether the smaller of the two shares a tenth of its rows or more, by their sketches.

        Also if the sketches cannot tell: a challenge counted twice is safe."""
        if self.digest == other.digest or not self.sketch or not other.sketch:
            return True

        # Below the lower of both maxima each sketch is complete.
        bound = min(self.sketch[-1], other.sketch[-1])
        rows, other_rows = (
            {row for row in sketch if row <= bound} for sketch in (self.sketch, other.sketch)
        )
        return len(rows & other_rows) >= _SAME * min(len(rows), len(other_rows))


@dataclass(frozen=True, kw_only=True, slots=True)
class Challenge:
    """A challenge that has spent a share: its `level`, its place among those of its test sets
    (`number`, from 1), the md5 of each test set, and when (UTC, ISO 8601)."""

    level: float
    number: int
    test_sets: tuple[str, ...]
    at: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Allocation:
    """The level of one challenge, and the test sets (by md5) on which it may be tested.

    `number` of `challenges`: its place among the challenges of its test sets; None if it is not
    counted. `repeated`: the same challenge has spent its share before, and spends none now."""

    level: float
    budget: float  # the whole level of a test set
    challenges: int
    number: int | None
    repeated: bool
    test_sets: tuple[str, ...]

    @property
    def is_spent(self) -> bool:
        """Whether no test set has a share left."""
        return not self.test_sets

    @property
    def reason(self) -> str:
        """Why the level is what it is, for the record of the decision."""
        if self.is_spent:
            return (
                f"the level {probability(self.budget)} of its test set is spent, by "
                f"{(self.number or 1) - 1:,} challenges (gate.challenges): use a new test set, or "
                "promote it manually with `seqline promote`"
            )
        share = f"level {probability(self.level)}"
        if self.level == self.budget / self.challenges:
            share += f" = {probability(self.budget)} / {self.challenges:,}"
        if self.number is None:
            return f"tested at {share}, as each of {self.challenges:,} challenges of a test set"
        place = f"challenge {self.number:,} of {self.challenges:,} of its test set"
        return f"tested at {share}, as {place}{', as before' if self.repeated else ''}"


class Ledger(Protocol):
    """The challenges of a champion's model, and the levels that they have spent."""

    def quote(self, test_sets: Sequence[TestSet]) -> Allocation:
        """The allocation that `reserve` would return now; nothing is spent."""
        ...

    def reserve(self, test_sets: Sequence[TestSet]) -> Allocation:
        """Spend the share of this challenge, once for the same challenge; before its test."""
        ...


@dataclass(frozen=True, slots=True)
class Uncounted:
    """The ledger of a comparison that promotes nothing: each one has the share of a challenge."""

    settings: Settings

    def quote(self, test_sets: Sequence[TestSet]) -> Allocation:
        """As `reserve`."""
        return Allocation(
            level=self.settings.share,
            budget=self.settings.level,
            challenges=self.settings.challenges,
            number=None,
            repeated=False,
            test_sets=tuple(test_set.digest for test_set in test_sets),
        )

    def reserve(self, test_sets: Sequence[TestSet]) -> Allocation:
        """Every test set, at the share of one challenge."""
        return self.quote(test_sets)


def spent(
    test_set: TestSet, challenges: Sequence[Challenge], known: Mapping[str, TestSet]
) -> list[Challenge]:
    """The challenges that were tested on rows of the test set.

    `known`: the test sets of the challenges, by md5. An unknown one counts as this one."""
    return [
        challenge
        for challenge in challenges
        if any(
            digest not in known or known[digest].overlaps(test_set)
            for digest in challenge.test_sets
        )
    ]


def allocate(
    settings: Settings,
    challenges: Sequence[Challenge],
    known: Mapping[str, TestSet],
    test_sets: Sequence[TestSet],
) -> Allocation:
    """The allocation of one more challenge, after `challenges`, on `test_sets`.

    It has those test sets that have a whole share left; none if their budgets are spent."""
    before = {test_set.digest: spent(test_set, challenges, known) for test_set in test_sets}
    open_sets = [
        digest
        for digest, earlier in before.items()
        if has_share(settings, sum(challenge.level for challenge in earlier))
    ]
    counted = open_sets or list(before)
    return Allocation(
        level=settings.share,
        budget=settings.level,
        challenges=settings.challenges,
        number=1 + max((len(before[digest]) for digest in counted), default=0),
        repeated=False,
        test_sets=tuple(open_sets),
    )


def has_share(settings: Settings, spent_level: float) -> bool:
    """Whether a test set that has spent so much has the share of one more challenge."""
    return spent_level + settings.share <= settings.level * (1 + _ROUNDING)


def shares_left(settings: Settings, spent_level: float) -> int:
    """Number of challenges for which the rest of a test set's level is enough."""
    rest = max(0.0, settings.level * (1 + _ROUNDING) - spent_level)
    return int(rest / settings.share)


def probability(value: float | None) -> str:
    """Format a level or a p-value with three significant digits: 0.05, 0.000137; – for None."""
    if value is None:
        return "–"
    return np.format_float_positional(float(f"{value:.3g}"), trim="-")
