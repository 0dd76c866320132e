"""A corpus's rows on their way from a format's reader to tables of tokens: what is left out, and
each row's split."""

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
from pipeline.text.splits import Digests, Keys, by_fold, by_hash, contiguous, digests
from pipeline.text.tokens import Text, normalise, split

Batches = Iterator[tuple[str, pa.RecordBatch]]
UNSPLIT = "all"
REQUIRED_SPLITS = ("train", "valid", "test")
_ROW_GROUP_BYTES = 8 << 20


class Rows:
    """Rows of a reader without blank lines (they are counted) and with no more than `limit` rows of
    each split.

    Those are a split's first rows; where rows have labels, the first rows of each label, in
    proportion to its rows."""

    def __init__(self, read: Callable[[], Batches], limit: int | None) -> None:
        self.blank_lines = 0
        self._read, self._limit = read, limit
        self._quotas: dict[str, dict[str, int]] | None = None

    def __iter__(self) -> Batches:
        self.blank_lines = 0
        seen: Counter[str] = Counter()
        by_label: Counter[tuple[str, str]] = Counter()
        for name, batch in self._read():
            if self._limit is not None and seen[name] >= self._limit:
                continue
            real = self._without_blanks(batch)
            if self._limit is not None and "label" in batch.schema.names:
                real = self._within_quotas(name, real, by_label)
            elif self._limit is not None:
                real = real.slice(0, self._limit - seen[name])
            seen[name] += len(real)
            yield name, real

    def count(self) -> Counter[str]:
        """Count the rows that have to be split, by label; under "" where rows have none."""
        counts: Counter[str] = Counter()
        for name, batch in self:
            if name == UNSPLIT:
                counts.update(_by_label(batch))
        return counts

    def _without_blanks(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        real = batch.filter(pc.fill_null(pc.not_equal(batch["reject"], BLANK), True))
        self.blank_lines += len(batch) - len(real)
        return real

    def _within_quotas(
        self, name: str, batch: pa.RecordBatch, counts: Counter[tuple[str, str]]
    ) -> pa.RecordBatch:
        """The rows within their labels' quotas; `counts` has the rows so far by split and label,
        and these are added."""
        if self._quotas is None:
            self._quotas = self._shares()
        keep = np.zeros(len(batch), bool)
        for label in pc.unique(batch["label"]).to_pylist():
            places = np.flatnonzero(pc.equal(batch["label"], label).to_numpy(zero_copy_only=False))
            places = places[: self._quotas[name][label] - counts[name, label]]
            counts[name, label] += len(places)
            keep[places] = True
        return batch.filter(pa.array(keep))

    def _shares(self) -> dict[str, dict[str, int]]:
        """Number of rows of each label within each split's limit, by a pass over the corpus that
        keeps only counts."""
        assert self._limit is not None
        counts: dict[str, Counter[str]] = {}
        blank_lines = self.blank_lines
        for name, batch in self._read():
            counts.setdefault(name, Counter()).update(_by_label(self._without_blanks(batch)))
        self.blank_lines = blank_lines
        return {name: shares(labels, self._limit) for name, labels in counts.items()}


def shares(counts: Mapping[str, int], limit: int) -> dict[str, int]:
    """Divide `limit` rows among the labels in proportion to `counts`, by largest remainders; each
    gets a row if possible.

    Of two equal remainders the one that comes first in `counts` is rounded up.
    """
    total = sum(counts.values())
    if total <= limit:
        return dict(counts)
    exact = {label: limit * count / total for label, count in counts.items()}
    least = 1 if limit >= len(counts) else 0
    rows = {label: min(counts[label], max(least, int(share))) for label, share in exact.items()}
    while (missing := limit - sum(rows.values())) != 0:
        step = 1 if missing > 0 else -1
        able = [
            label
            for label in rows
            if (rows[label] < counts[label] if step > 0 else rows[label] > least)
        ]
        rows[max(able, key=lambda label: step * (exact[label] - rows[label]))] += step
    return rows


def _by_label(batch: pa.RecordBatch) -> dict[str, int]:
    if "label" not in batch.schema.names:
        return {"": len(batch)}
    return {
        entry["values"]: entry["counts"] for entry in pc.value_counts(batch["label"]).to_pylist()
    }


@dataclass(frozen=True, slots=True)
class PreparedBatch:
    """A batch of rows: the columns of its table but `row`, why a row is rejected (else null), and
    each side's key."""

    columns: dict[str, Any]
    reasons: pa.StringArray
    keys: list[Digests]


def prepare(batch: pa.RecordBatch, text: Text) -> PreparedBatch:
    """A reader's batch normalised and split into tokens; a row is rejected if a side is empty or
    too long."""
    sides = [name for name in ("text", "source", "target") if name in batch.schema.names]
    normal = {side: normalise(batch[side], text.lowercase, text.letters_only) for side in sides}
    tokens = {side: split(normal[side], text.level) for side in sides}
    reasons = batch["reject"]
    for side in sides:
        empty = pc.if_else(
            pc.equal(normal[side], ""), f"{side} is empty", pa.scalar(None, pa.string())
        )
        reasons = pc.coalesce(reasons, empty)
        if text.max_tokens is not None:
            long = pc.greater(pc.list_value_length(tokens[side]), text.max_tokens)
            told = f"{side} has more than {text.max_tokens} tokens"
            reasons = pc.coalesce(reasons, pc.if_else(long, told, pa.scalar(None, pa.string())))
    keys = [
        digests(
            normal[side] if text.lowercase else normalise(normal[side], True, text.letters_only)
        )
        for side in sides
    ]
    length = pc.utf8_length(normal[sides[-1]])
    if "label" in batch.schema.names:
        columns = {
            "text": batch["text"],
            "tokens": tokens["text"],
            "characters": length,
            "label": batch["label"],
        }
        return PreparedBatch(columns, reasons, keys)
    if sides == ["text"]:
        rest = {
            "characters": length,
            "paragraph": batch["paragraph"],
            "log_prob": batch["log_prob"],
        }
        return PreparedBatch(
            {"text": batch["text"], "tokens": tokens["text"], **rest}, reasons, keys
        )
    named = {f"{side}_tokens": tokens[side] for side in sides}
    raw = {side: batch[side] for side in sides}
    return PreparedBatch({**raw, **named, "target_characters": length}, reasons, keys)


def prepare_batch(told: tuple[str, pa.RecordBatch], text: Text) -> tuple[str, PreparedBatch]:
    """`prepare` for what a reader yields: a batch with the name that its split has there."""
    name, batch = told
    return name, prepare(batch, text)


class Splitter:
    """Gives every row its split: the official one, or by `how`.

    `totals`: for contiguous parts, the number of rows to be split, by label ("" where there is
    none). Each label's rows are divided on their own, so that every split has all labels whatever
    the order of the rows."""

    def __init__(self, how: params.Splitting | None, totals: Mapping[str, int]) -> None:
        self._how, self._totals = how, totals
        self._first: Counter[str] = Counter()

    def possible(self, name: str) -> tuple[str, ...]:
        """The splits that rows which their reader calls `name` may come to."""
        if isinstance(self._how, params.OutOfTrain):
            return ("train", "valid") if name == "train" else (name,)
        return REQUIRED_SPLITS if name == UNSPLIT and self._how is not None else (name,)

    def names(self, name: str, rows: PreparedBatch) -> pa.StringArray:
        """The split of each row of a batch that its reader calls `name`; batches come in the
        corpus's order."""
        how, count = self._how, len(rows.reasons)
        if how is None or self.possible(name) == (name,):
            return pa.repeat(name, count)
        if isinstance(how, params.OutOfTrain):
            return by_hash(rows.keys[0], how.valid, 0.0)
        if isinstance(how, params.Folds):
            return by_fold(rows.keys[0], how.folds, how.fold)
        if how.method == "hash":
            return by_hash(rows.keys[0], how.valid, how.test)
        if "label" not in rows.columns:
            return self._contiguous("", count, how)
        names = np.full(count, "", object)
        for label in pc.unique(rows.columns["label"]).to_pylist():
            chosen = pc.equal(rows.columns["label"], label).to_numpy(zero_copy_only=False)
            names[chosen] = self._contiguous(label, int(chosen.sum()), how).to_pylist()
        return pa.array(names, pa.string())

    def _contiguous(self, label: str, count: int, how: params.Split) -> pa.StringArray:
        """The splits of the next rows of a label."""
        first = self._first[label]
        self._first[label] += count
        return contiguous(first, count, self._totals[label], how.valid, how.test)


def rejects(names: pa.StringArray, rows: PreparedBatch) -> pa.RecordBatch:
    """The rejected ones of the rows as `tables.REJECTS`; the sides of a pair are kept with a tab
    between them."""
    wanted = pc.is_valid(rows.reasons)
    sides = [rows.columns[side] for side in ("text", "source", "target") if side in rows.columns]
    raw = sides[0] if len(sides) == 1 else pc.binary_join_element_wise(*sides, "\t")
    columns = [column.filter(wanted) for column in (names, rows.reasons, raw)]
    return pa.record_batch(columns, schema=tables.REJECTS)


class SplitWriter:
    """The table of one split while it is written: rows are collected to row groups of a few MiB."""

    def __init__(self, path: Path, kind: str, stack: ExitStack) -> None:
        self.rows = 0
        self.rejected: Counter[str] = Counter()
        self.labels: Counter[str] = Counter()
        self._kind, self._keys, self._sums = kind, Keys(), Counter[str]()
        self._schema = tables.TOKENS[kind]
        self._writer = stack.enter_context(tables.writer(path, self._schema))
        self._waiting: list[pa.RecordBatch] = []

    def add(self, rows: PreparedBatch, mine: pa.BooleanArray) -> None:
        """Write those of the rows that are `mine` and not rejected; count the others."""
        for reason in pc.value_counts(rows.reasons.filter(mine).drop_null()).to_pylist():
            self.rejected[reason["values"]] += reason["counts"]
        kept = pc.and_(mine, pc.is_null(rows.reasons))
        columns = [column.filter(kept) for column in rows.columns.values()]
        count = len(columns[0])
        numbers = pa.array(np.arange(self.rows, self.rows + count))
        batch = pa.record_batch([numbers, *columns], schema=self._schema)
        self.rows += count
        self._keys.add([side[kept.to_numpy(zero_copy_only=False)] for side in rows.keys])
        for field in self._schema:
            if field.name.endswith("tokens"):
                self._sums[field.name] += len(batch[field.name].flatten())
            elif field.name.endswith("characters"):
                self._sums[field.name] += pc.sum(batch[field.name], min_count=0).as_py()
        if self._kind == "labelled":
            self.labels.update(_by_label(batch))
        self._waiting.append(batch)
        # Not `nbytes`, which counts bitmaps without a null: whether there is one depends on which
        # process made the batch.
        if sum(map(pa.ipc.get_record_batch_size, self._waiting)) > _ROW_GROUP_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what waits as one row group."""
        if self._waiting:
            self._writer.write_table(pa.Table.from_batches(self._waiting))
            self._waiting = []

    def metrics(self, train: "SplitWriter | None") -> dict[str, Any]:
        """Rows, tokens, characters, rows of each label, rejects by reason, duplicates and, but for
        train itself (None), overlap with train."""
        found = self._keys.report(None if train is None else train._keys, self._kind == "pair")
        labels = {"labels": dict(self.labels)} if self._kind == "labelled" else {}
        return {"rows": self.rows, **self._sums, **labels, "rejected": dict(self.rejected), **found}
