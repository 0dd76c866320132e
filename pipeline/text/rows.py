"""From a format's reader to tables of tokens: reject and limit rows, and assign each its split."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core import params, tables
from pipeline.corpora import BLANK
from pipeline.text.splits import (
    Digests,
    Keys,
    by_fold,
    by_hash,
    contiguous,
    digests,
    value_digests,
)
from pipeline.text.tokens import SIDES, Text, normalise, split

Batches = Iterator[tuple[str, pa.RecordBatch]]
UNSPLIT = "all"
REQUIRED_SPLITS = ("train", "valid", "test")
_ROW_GROUP_BYTES = 8 << 20


class Rows:
    """Rows of a reader, without blank lines (they are counted), at most `limit` of each split.

    They are the first rows of a split or, if rows have labels, the first rows of each label, in
    proportion to its frequency."""

    def __init__(self, read: Callable[[], Batches], limit: int | None) -> None:
        self.blank_lines = 0
        self._read = read
        self._limit = limit
        self._quotas: dict[str, dict[str, int]] | None = None

    def __iter__(self) -> Batches:
        self.blank_lines = 0
        counts: Counter[str] = Counter()
        label_counts: Counter[tuple[str, str]] = Counter()
        for name, batch in self._read():
            if self._limit is not None and counts[name] >= self._limit:
                continue

            rows = self._without_blanks(batch)
            if self._limit is not None and "label" in batch.schema.names:
                rows = self._within_quotas(name, rows, label_counts)
            elif self._limit is not None:
                rows = rows.slice(0, self._limit - counts[name])
            counts[name] += len(rows)
            yield name, rows

    def count(self) -> Counter[str]:
        """Count the rows to be split, by label ("" for rows without labels)."""
        counts: Counter[str] = Counter()
        for name, batch in self:
            if name == UNSPLIT:
                counts.update(_by_label(batch))
        return counts

    def _without_blanks(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        rows = batch.filter(pc.fill_null(pc.not_equal(batch["reject"], BLANK), True))
        self.blank_lines += len(batch) - len(rows)
        return rows

    def _within_quotas(
        self, name: str, batch: pa.RecordBatch, counts: Counter[tuple[str, str]]
    ) -> pa.RecordBatch:
        """Keep the rows within their labels' quotas, and add them to `counts`: the rows so far, by
        split and label."""
        if self._quotas is None:
            self._quotas = self._count_quotas()

        keep = np.zeros(len(batch), bool)
        for label in pc.unique(batch["label"]).to_pylist():
            mask = pc.equal(batch["label"], label).to_numpy(zero_copy_only=False)
            positions = np.flatnonzero(mask)[: self._quotas[name][label] - counts[name, label]]
            counts[name, label] += len(positions)
            keep[positions] = True
        return batch.filter(pa.array(keep))

    def _count_quotas(self) -> dict[str, dict[str, int]]:
        """Number of rows of each label within each split's limit, by an extra pass over the
        corpus."""
        assert self._limit is not None
        counts: dict[str, Counter[str]] = {}
        blank_lines = self.blank_lines
        for name, batch in self._read():
            counts.setdefault(name, Counter()).update(_by_label(self._without_blanks(batch)))
        self.blank_lines = blank_lines  # do not count them twice

        return {name: shares(labels, self._limit) for name, labels in counts.items()}


def shares(counts: Mapping[str, int], limit: int) -> dict[str, int]:
    """Divide `limit` rows among the labels in proportion to `counts`, by the largest remainder
    method; each label gets a row if possible.

    Of two equal remainders the first one in `counts` is rounded up.
    """
    total = sum(counts.values())
    if total <= limit:
        return dict(counts)

    exact = {label: limit * count / total for label, count in counts.items()}
    least = 1 if limit >= len(counts) else 0
    rows = {label: min(counts[label], max(least, int(share))) for label, share in exact.items()}

    # Rounding down and the minimum of one row leave a rest, of either sign.
    while (rest := limit - sum(rows.values())) != 0:
        step = 1 if rest > 0 else -1
        candidates = [
            label
            for label in rows
            if (rows[label] < counts[label] if step > 0 else rows[label] > least)
        ]
        rows[max(candidates, key=lambda label: step * (exact[label] - rows[label]))] += step
    return rows


def _by_label(batch: pa.RecordBatch) -> dict[str, int]:
    if "label" not in batch.schema.names:
        return {"": len(batch)}
    return {
        entry["values"]: entry["counts"] for entry in pc.value_counts(batch["label"]).to_pylist()
    }


@dataclass(frozen=True, slots=True)
class PreparedBatch:
    """A batch of tokenized rows.

    `columns`: those of its table except `row`. `reasons`: why a row is rejected, else null. `keys`:
    the digest of each row's key, for each side.
    """

    columns: dict[str, Any]
    reasons: pa.StringArray
    keys: list[Digests]


def prepare(batch: pa.RecordBatch, text: Text, keep_blank: bool = False) -> PreparedBatch:
    """Normalise a reader's batch and split it into tokens; reject a row if a side is empty or too
    long.

    `keep_blank`: an empty row is a row without tokens.
    """
    sides = [name for name in SIDES if name in batch.schema.names]
    normal = {side: normalise(batch[side], text.lowercase, text.letters_only) for side in sides}
    tokens = {side: split(normal[side], text.level) for side in sides}

    # A row keeps its first reason.
    reasons = batch["reject"]
    null = pa.scalar(None, pa.string())
    for side in sides:
        if not keep_blank:
            empty = pc.if_else(pc.equal(normal[side], ""), f"{side} is empty", null)
            reasons = pc.coalesce(reasons, empty)
        if text.max_tokens is not None:
            long = pc.greater(pc.list_value_length(tokens[side]), text.max_tokens)
            reason = f"{side} has more than {text.max_tokens} tokens"
            reasons = pc.coalesce(reasons, pc.if_else(long, reason, null))

    # Keys are lower-cased whatever the run reads (see `pipeline.text.splits`).
    keys = [
        digests(
            normal[side] if text.lowercase else normalise(normal[side], True, text.letters_only)
        )
        for side in sides
    ]

    length = pc.utf8_length(normal[sides[-1]])
    columns = {side: batch[side] for side in sides}
    if sides == ["text"]:
        others = ("label",) if "label" in batch.schema.names else ("paragraph", "log_prob")
        columns |= {"tokens": tokens["text"], "characters": length}
        columns |= {name: batch[name] for name in others}
    else:
        columns |= {f"{side}_tokens": tokens[side] for side in sides}
        if "label" in batch.schema.names:
            columns["label"] = batch["label"]
        else:
            columns["target_characters"] = length
    return PreparedBatch(columns, reasons, keys)


def prepare_values(batch: pa.RecordBatch) -> PreparedBatch:
    """Copy a reader's batch of a corpus without text."""
    columns = {name: batch[name] for name in batch.schema.names if name != "reject"}
    return PreparedBatch(columns, batch["reject"], [value_digests(batch)])


def prepare_batch(
    item: tuple[str, pa.RecordBatch], text: Text | None, keep_blank: bool
) -> tuple[str, PreparedBatch]:
    """`prepare` for a reader's (split, batch); `text` is None for a corpus without text."""
    name, batch = item
    return name, prepare_values(batch) if text is None else prepare(batch, text, keep_blank)


class Splitter:
    """Assign every row its split: the official one, or by `splitting`.

    `totals`: for contiguous parts, the number of rows to be split, by label ("" for rows without
    labels). Each label's rows are divided separately, so that every split has all labels in any
    order of the rows."""

    def __init__(self, splitting: params.Splitting | None, totals: Mapping[str, int]) -> None:
        self._splitting = splitting
        self._totals = totals
        self._first: Counter[str] = Counter()  # by label: number of the next row

    def possible(self, name: str) -> tuple[str, ...]:
        """Possible splits of rows in the reader's split `name`."""
        if isinstance(self._splitting, params.OutOfTrain):
            return ("train", "valid") if name == "train" else (name,)
        return REQUIRED_SPLITS if name == UNSPLIT and self._splitting is not None else (name,)

    def names(self, name: str, rows: PreparedBatch) -> pa.StringArray:
        """Split of each row of a batch in the reader's split `name`; call it in the corpus's
        order."""
        splitting = self._splitting
        count = len(rows.reasons)
        if splitting is None or self.possible(name) == (name,):
            return pa.repeat(name, count)
        if isinstance(splitting, params.OutOfTrain):
            return by_hash(rows.keys[0], splitting.valid, 0.0)
        if isinstance(splitting, params.Folds):
            return by_fold(rows.keys[0], splitting.folds, splitting.fold)
        if splitting.method == "hash":
            return by_hash(rows.keys[0], splitting.valid, splitting.test)
        if "label" not in rows.columns:
            return self._contiguous("", count, splitting)

        names = np.full(count, "", object)
        for label in pc.unique(rows.columns["label"]).to_pylist():
            mask = pc.equal(rows.columns["label"], label).to_numpy(zero_copy_only=False)
            names[mask] = self._contiguous(label, int(mask.sum()), splitting).to_pylist()
        return pa.array(names, pa.string())

    def _contiguous(self, label: str, count: int, splitting: params.Split) -> pa.StringArray:
        """Splits of the next `count` rows of a label."""
        first = self._first[label]
        self._first[label] += count
        return contiguous(first, count, self._totals[label], splitting.valid, splitting.test)


def rejects(names: pa.StringArray, rows: PreparedBatch) -> pa.RecordBatch:
    """The rejected rows as `tables.REJECTS`; the sides of a pair are joined by a tab, and rows
    without text have null."""
    rejected = pc.is_valid(rows.reasons)
    sides = [rows.columns[side] for side in SIDES if side in rows.columns]
    raw = pa.nulls(len(rejected), pa.string())
    if sides:
        raw = sides[0] if len(sides) == 1 else pc.binary_join_element_wise(*sides, "\t")
    columns = [column.filter(rejected) for column in (names, rows.reasons, raw)]
    return pa.record_batch(columns, schema=tables.REJECTS)


class SplitWriter:
    """Write the table of one split in row groups of a few MiB, and count its rows."""

    def __init__(self, path: Path, kind: str, stack: ExitStack) -> None:
        self.rows = 0
        self.rejected: Counter[str] = Counter()
        self.labels: Counter[str] = Counter()
        self._kind = kind
        self._keys = Keys()
        self._sums = Counter[str]()
        self._schema = tables.TOKENS[kind]
        self._writer = stack.enter_context(tables.writer(path, self._schema))
        self._pending: list[pa.RecordBatch] = []

    def add(self, rows: PreparedBatch, in_split: pa.BooleanArray) -> None:
        """Write the rows that are in the split and not rejected; count the rejected ones."""
        for reason in pc.value_counts(rows.reasons.filter(in_split).drop_null()).to_pylist():
            self.rejected[reason["values"]] += reason["counts"]

        mask = pc.and_(in_split, pc.is_null(rows.reasons))
        columns = [column.filter(mask) for column in rows.columns.values()]
        count = len(columns[0])
        numbers = pa.array(np.arange(self.rows, self.rows + count))
        batch = pa.record_batch([numbers, *columns], schema=self._schema)

        self.rows += count
        self._keys.add([digest[mask.to_numpy(zero_copy_only=False)] for digest in rows.keys])
        for field in self._schema:
            if field.name.endswith("tokens"):
                self._sums[field.name] += len(batch[field.name].flatten())
            elif field.name.endswith("characters"):
                self._sums[field.name] += pc.sum(batch[field.name], min_count=0).as_py()
        if "label" in self._schema.names:
            self.labels.update(_by_label(batch))

        self._pending.append(batch)
        # Not `nbytes`: it counts bitmaps without a null, which exist or not depending on the
        # process of the batch. The row groups must not depend on it.
        if sum(map(pa.ipc.get_record_batch_size, self._pending)) > _ROW_GROUP_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write the pending rows as one row group."""
        if self._pending:
            self._writer.write_table(pa.Table.from_batches(self._pending))
            self._pending = []

    def metrics(self, train: "SplitWriter | None") -> dict[str, Any]:
        """Rows, tokens, characters, rows of each label, rejects by reason, duplicates, and the
        overlap with train (None for train itself)."""
        is_pair = self._kind in ("pair", "labelled_pair")
        overlap = self._keys.report(None if train is None else train._keys, is_pair)
        labels = {"labels": dict(self.labels)} if "label" in self._schema.names else {}
        return {
            "rows": self.rows,
            **self._sums,
            **labels,
            "rejected": dict(self.rejected),
            **overlap,
        }
