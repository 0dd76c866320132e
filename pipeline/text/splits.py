"""Splits without leakage, and counts of duplicates and of overlap with train.

Rows are compared by a *key*: the normalised, lower-cased text. It does not depend on the level or
the case that a run reads: changing those moves no row from one split to another, and two rows that
differ only in case are the same row. Keys are stored as 64-bit digests (BLAKE2b), so the memory is
8 bytes per row and side. The chance that any two of a million keys share a digest is one in 37
million."""

from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np
import pyarrow as pa

Digests = np.ndarray[tuple[int], np.dtype[np.uint64]]


def digests(keys: pa.StringArray) -> Digests:
    """64-bit digest of each key, the same on every machine and in every process."""
    joined = b"".join(
        blake2b(key, digest_size=8).digest() for key in keys.cast(pa.binary()).to_pylist()
    )
    return np.frombuffer(joined, "<u8").astype(np.uint64)


def value_digests(rows: pa.RecordBatch) -> Digests:
    """64-bit digest of each row of a corpus without text: of its values, but not of its label."""
    names = [name for name in rows.schema.names if name not in ("row", "label", "reject")]
    values = zip(*(rows[name].to_pylist() for name in names), strict=True)
    return digests(pa.array([repr(row) for row in values], pa.string()))


def by_hash(keys: Digests, valid: float, test: float) -> pa.StringArray:
    """Split of each key by its digest alone: equal keys share a split, and no row moves when others
    are added."""
    share = keys.astype(np.float64) / 2.0**64  # uniform in [0, 1)
    return _names(np.where(share < test, 2, np.where(share < test + valid, 1, 0)))


def by_fold(keys: Digests, folds: int, fold: int) -> pa.StringArray:
    """Split of each key for cross-validation: of `folds` parts, part `fold` is test, the next one
    valid, the others train."""
    part = (keys.astype(np.float64) / 2.0**64 * folds).astype(np.int64) % folds
    return _names(np.where(part == fold, 2, np.where(part == (fold + 1) % folds, 1, 0)))


def contiguous(first: int, count: int, total: int, valid: float, test: float) -> pa.StringArray:
    """Splits of the rows `first` to `first + count` of `total`: train at the beginning, then valid,
    then test."""
    begins = [round(total * (1 - valid - test)), round(total * (1 - test))]
    return _names(np.searchsorted(begins, np.arange(first, first + count), side="right"))


def _names(numbers: np.ndarray[tuple[int], np.dtype[np.int64]]) -> pa.StringArray:
    return pa.array(["train", "valid", "test"]).take(pa.array(numbers))


@dataclass(slots=True)
class Keys:
    """Digests of one split's rows: `sources` of the text or source, `rows` of the whole row."""

    sources: list[Digests] = field(default_factory=list)
    rows: list[Digests] = field(default_factory=list)

    def add(self, sides: list[Digests]) -> None:
        """Add a batch of rows: one array of digests for text, two for pairs."""
        self.sources.append(sides[0])
        # Multiplying by an odd number makes a pair's digest differ from that of the swapped pair.
        factor = np.uint64(0x9E3779B97F4A7C15)
        self.rows.append(sides[0] if len(sides) == 1 else sides[0] ^ (sides[1] * factor))

    def report(self, train: "Keys | None", pair: bool) -> dict[str, int]:
        """Count duplicates within the split, and its rows that `train` has as well (None for train
        itself)."""
        rows = _concatenate(self.rows)
        sources = _concatenate(self.sources)
        counts = {"duplicates": len(rows) - len(np.unique(rows))}
        if pair:
            counts["distinct_sources"] = len(np.unique(sources))
        if train is not None:
            counts["rows_also_in_train"] = int(np.isin(rows, _concatenate(train.rows)).sum())
            if pair:
                shared = np.isin(sources, _concatenate(train.sources))
                counts["sources_also_in_train"] = int(shared.sum())
        return counts


def _concatenate(batches: list[Digests]) -> Digests:
    return np.concatenate(batches) if batches else np.zeros(0, np.uint64)
