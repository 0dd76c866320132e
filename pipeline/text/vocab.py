"""Vocabularies: tokens with ids, the most frequent first; ties in the order of the tokens, so that
a rerun gives the same ids."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core import config, tables
from pipeline.core.errors import refuse
from pipeline.text.specials import SPECIALS, UNK

BYTES = 256
REPAIR_ADVICE = "Run `dvc checkout` of its folder, or `dvc repro -f` of the stage vocab."


@dataclass(frozen=True, kw_only=True, slots=True)
class Vocab:
    """The block `vocab` of a corpus.

    `corpus`: the corpus whose training text is counted: this one, or another one with the same
    `text` and `vocab`, so that a model of that one can be fine-tuned on this one.

    `size`: the number of ids, specials included; null for all tokens. `min_count`: rarer tokens
    become `<unk>` (for bpe: rarer pairs are not merged). `share`: one vocabulary for source and
    target; no effect on text."""

    corpus: str
    size: int | None
    min_count: int
    share: bool

    def __post_init__(self) -> None:
        if self.size is not None and self.size <= len(SPECIALS):
            todo = f"{len(SPECIALS)} ids are taken by {' '.join(SPECIALS)}."
            raise refuse(
                "size", self.size, f"more than {len(SPECIALS)}, or null for every token", todo
            )
        if self.min_count < 1:
            raise refuse("min_count", self.min_count, "at least 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class NoVocab:
    """The block `vocab` of a corpus without text: its own name. It has no words to count."""

    corpus: str


def load_block(values: Any, has_text: bool, where: str) -> Vocab | NoVocab:
    """Load the block `vocab` of a corpus with or without text; `where` is its dotted name."""
    if has_text:
        return config.load(Vocab, values, where)
    return config.load(NoVocab, values, where)


def load(path: Path, size: int | None, first: Sequence[str]) -> pa.StringArray:
    """Load the tokens of the vocabulary at `path`, in the order of their ids.

    `size`: the expected number of ids. `first`: the expected first tokens. UserError if the
    vocabulary is damaged.
    """
    table = tables.read(path, tables.VOCAB)
    tokens = table["token"].combine_chunks()
    if size is not None and len(tokens) != size:
        raise refuse(str(path), f"{len(tokens)} ids", f"{size}, as vocab.json has", REPAIR_ADVICE)
    # Compare in NumPy: pa.array would import pandas.
    if not np.array_equal(table["id"].to_numpy(), np.arange(len(tokens))):
        raise refuse(
            str(path), "ids out of order", f"the ids 0 to {len(tokens) - 1}", REPAIR_ADVICE
        )

    if (
        tokens.null_count
        or len(tokens.unique()) != len(tokens)
        or tokens[: len(first)].to_pylist() != list(first)
    ):
        raise refuse(
            str(path),
            "tokens missing, doubled or out of place",
            "each token once, special ones first",
            REPAIR_ADVICE,
        )
    return tokens


def check_pieces(config: Vocab, where: str) -> None:
    """Refuse a byte-level bpe (`where` is the block's dotted name) without room for every byte."""
    least = len(SPECIALS) + BYTES
    if config.size is None or config.size < least:
        todo = (
            f"Byte-level bpe needs {len(SPECIALS)} specials and {BYTES} bytes before its "
            "first merge."
        )
        raise refuse(f"{where}.size", config.size, f"at least {least}", todo)


def count(tokens: pa.ListArray) -> pa.Table:
    """Count the distinct tokens (`token`, `count`), in no particular order."""
    counts = pc.value_counts(tokens.flatten())
    return _counts(counts.field("values"), counts.field("counts"))


def merge(first: pa.Table, second: pa.Table) -> pa.Table:
    """Add up two tables of counts."""
    summed = pa.concat_tables([first, second]).group_by("token").aggregate([("count", "sum")])
    return _counts(summed["token"], summed["count_sum"])


def table(counts: pa.Table, config: Vocab) -> pa.Table:
    """Vocabulary (`tables.VOCAB`) of word or character counts: specials, then tokens by descending
    count and ascending token.

    The count of `<unk>` is that of all excluded tokens. A token of the text that is written like a
    special is excluded."""
    ordinary = counts.filter(pc.invert(pc.is_in(counts["token"], pa.array(SPECIALS))))
    frequent = ordinary.filter(pc.greater_equal(ordinary["count"], config.min_count))
    ordered = frequent.sort_by([("count", "descending"), ("token", "ascending")])
    included = ordered if config.size is None else ordered.slice(0, config.size - len(SPECIALS))

    unknown = (pc.sum(counts["count"]).as_py() or 0) - (pc.sum(included["count"]).as_py() or 0)
    specials = [unknown if number == UNK else 0 for number in range(len(SPECIALS))]
    tokens = pa.concat_arrays([pa.array(SPECIALS), included["token"].combine_chunks()])
    numbers = pa.concat_arrays([pa.array(specials, pa.int64()), included["count"].combine_chunks()])
    return pa.table(
        [tokens, pa.array(range(len(tokens)), pa.int32()), numbers], schema=tables.VOCAB
    )


def _counts(tokens: pa.Array, counts: pa.Array) -> pa.Table:
    return pa.table([tokens, counts], names=["token", "count"])
