"""Counts of a corpus that need no stage: rows, words, labels and rejects."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.corpora import BLANK
from pipeline.text import tokens

_SAMPLES = 3
_SAMPLE_TOKENS = range(3, 16)
_LETTER = r"\p{L}"
# Scripts without spaces between words.
_SPACELESS = r"[\p{Thai}\p{Lao}\p{Myanmar}\p{Khmer}\p{Hiragana}\p{Katakana}\p{Han}]"


@dataclass
class Counts:
    """Counts of the usable rows of train, or of the rows that are to be split.

    `lengths`: of each row in tokens, by side. `samples`: rows of a usual length, by column."""

    rows: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    rejects: Counter[str] = field(default_factory=Counter)  # of all splits, by reason
    lengths: dict[str, NDArray[np.int32]] = field(default_factory=dict)
    samples: list[dict[str, str]] = field(default_factory=list)
    letters: Counter[str] = field(default_factory=Counter)  # by side
    spaceless_letters: Counter[str] = field(default_factory=Counter)

    @property
    def tokens(self) -> int:
        """Number of tokens of the last side: the text, or the target."""
        return int(list(self.lengths.values())[-1].sum()) if self.lengths else 0

    @property
    def spaceless_sides(self) -> int:
        """Number of sides that are mostly in a script without spaces between words."""
        return sum(self.spaceless_letters[side] * 2 > self.letters[side] for side in self.letters)

    def longest(self, side: int) -> int:
        """Length that 99 of 100 rows do not exceed; side 0 is the text or source, -1 the target."""
        lengths = list(self.lengths.values())
        return int(np.quantile(lengths[side], 0.99)) if self.rows else 0


def count(reader: ModuleType, read: Any, raw: Path, text: tokens.Text) -> Counts:
    """Count a corpus of the format `reader` in the folder `raw`; errors as its reader."""
    counts = Counts()
    lengths: dict[str, list[NDArray[np.int32]]] = {}
    for split, batch in reader.read(raw, read):
        usable = _usable(batch, counts)
        if split not in ("train", "all"):
            continue
        counts.rows += len(usable)
        if "label" in usable.schema.names:
            counts.labels.update(usable["label"].to_pylist())
        for side in tokens.SIDES:
            if side in usable.schema.names:
                normal = tokens.normalise(usable[side], text.lowercase, text.letters_only)
                size = pc.list_value_length(tokens.split(normal, text.level)).to_numpy()
                lengths.setdefault(side, []).append(size)
                counts.letters[side] += _count(normal, _LETTER)
                counts.spaceless_letters[side] += _count(normal, _SPACELESS)
        if len(counts.samples) < _SAMPLES and lengths:
            _add_samples(usable, next(iter(lengths.values()))[-1], counts.samples)
    counts.lengths = {side: np.concatenate(parts) for side, parts in lengths.items()}
    return counts


def _usable(batch: pa.RecordBatch, counts: Counts) -> pa.RecordBatch:
    """Rows that are no rejects and have text on every side; the others are counted."""
    reasons = batch["reject"]
    for side in tokens.SIDES:
        if side in batch.schema.names:
            empty = pc.equal(pc.utf8_trim_whitespace(batch[side]), "")
            reasons = pc.coalesce(reasons, pc.if_else(empty, f"{side} is empty", None))
    for entry in pc.value_counts(reasons.drop_null()).to_pylist():
        if entry["values"] != BLANK:
            counts.rejects[entry["values"]] += entry["counts"]
    return batch.filter(pc.is_null(reasons))


def _count(texts: pa.StringArray, pattern: str) -> int:
    return pc.sum(pc.count_substring_regex(texts, pattern)).as_py() or 0


def _add_samples(
    batch: pa.RecordBatch, sizes: NDArray[np.int32], samples: list[dict[str, str]]
) -> None:
    """Add rows of a usual length, each with another text, until there are `_SAMPLES`."""
    names = [name for name in (*tokens.SIDES, "label") if name in batch.schema.names]
    for row in np.flatnonzero(np.isin(sizes, _SAMPLE_TOKENS)).tolist():
        sample = {name: " ".join(batch[name][row].as_py().split()) for name in names}
        if sample[names[0]] not in {earlier[names[0]] for earlier in samples}:
            samples.append(sample)
        if len(samples) == _SAMPLES:
            return
