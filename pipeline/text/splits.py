"""Splits that do not leak, and the count of what leaks or repeats.

Rows are compared by a *key*: the normalised, lower-cased text. It does not depend on the level or
the case that a run reads, so changing those moves no row from one split to another, and two rows
that differ only in case are the same row. Keys are kept as 64-bit digests (BLAKE2b): 8 bytes per
row and side is all that grows with the corpus (two different keys share a digest with a chance of
one in 37 million for a million rows)."""

from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np
import pyarrow as pa

Digests = np.ndarray[tuple[int], np.dtype[np.uint64]]


def digests(keys: pa.StringArray) -> Digests:
    """One 64-bit digest per key: the same on every machine and in every process."""
    joined = b"".join(
        blake2b(key, digest_size=8).digest() for key in keys.cast(pa.binary()).to_pylist()
    )
    return np.frombuffer(joined, "<u8").astype(np.uint64)


def by_hash(found: Digests, valid: float, test: float) -> pa.StringArray:
    """A split for each digest, by nothing but the digest: equal keys go together, and no row moves
    when others are added."""
    share = found.astype(np.float64) / 2.0**64
    return _names(np.where(share < test, 2, np.where(share < test + valid, 1, 0)))


def by_fold(found: Digests, folds: int, fold: int) -> pa.StringArray:
    """A split for each digest: of `folds` parts the one numbered `fold` is test, the next valid,
    the others train."""
    part = (found.astype(np.float64) / 2.0**64 * folds).astype(np.int64) % folds
    return _names(np.where(part == fold, 2, np.where(part == (fold + 1) % folds, 1, 0)))


def contiguous(first: int, count: int, total: int, valid: float, test: float) -> pa.StringArray:
    """Splits of the rows `first` to `first + count` of `total`: train at the beginning, then valid,
    then test."""
    begins = [round(total * (1 - valid - test)), round(total * (1 - test))]
    return _names(np.searchsorted(begins, np.arange(first, first + count), side="right"))


def _names(places: np.ndarray[tuple[int], np.dtype[np.int64]]) -> pa.StringArray:
    return pa.array(["train", "valid", "test"]).take(pa.array(places))


@dataclass(slots=True)
class Keys:
    """The digests of one split's rows: `sources` of their first side, `rows` of both sides
    together."""

    sources: list[Digests] = field(default_factory=list)
    rows: list[Digests] = field(default_factory=list)

    def add(self, sides: list[Digests]) -> None:
        """A batch of rows, side by side (one side for text, two for pairs)."""
        self.sources.append(sides[0])
        self.rows.append(sides[0] if len(sides) == 1 else _mixed(sides[0], sides[1]))

    def report(self, train: "Keys | None", pair: bool) -> dict[str, int]:
        """Duplicates within the split, and how many of its rows `train` holds as well (None for
        train itself)."""
        rows, sources = _all(self.rows), _all(self.sources)
        found = {"duplicates": len(rows) - len(np.unique(rows))}
        if pair:
            found["distinct_sources"] = len(np.unique(sources))
        if train is not None:
            found["rows_also_in_train"] = int(np.isin(rows, _all(train.rows)).sum())
            if pair:
                found["sources_also_in_train"] = int(np.isin(sources, _all(train.sources)).sum())
        return found


def _mixed(source: Digests, target: Digests) -> Digests:
    """One digest of two: the second is multiplied by an odd number, lest swapped sides look
    alike."""
    mixed: Digests = source ^ (target * np.uint64(0x9E3779B97F4A7C15))
    return mixed


def _all(batches: list[Digests]) -> Digests:
    return np.concatenate(batches) if batches else np.zeros(0, np.uint64)
