"""Vocabularies: which tokens have ids, the most frequent first, ties by the token's own order, so
that a rerun agrees."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core import tables
from pipeline.core.errors import refuse
from pipeline.text.specials import SPECIALS, UNK

BYTES = 256
REPAIR_ADVICE = "Run `dvc checkout` of its folder, or `dvc repro -f` of the stage vocab."


@dataclass(frozen=True, kw_only=True, slots=True)
class Vocab:
    """The block `vocab` of a corpus.

    `corpus`: whose training text it is made of: the corpus's own name, or another's with the same
    `text` and `vocab`, so that a model of that one can be trained further on this one.

    `size` counts every id, the specials too; null for all tokens. Tokens seen fewer than
    `min_count` times become `<unk>` (for bpe: pairs seen less often are not merged). `share`: one
    vocabulary for both sides of pairs, no effect on text."""

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


def load(path: Path, size: int | None, first: Sequence[str]) -> pa.StringArray:
    """The tokens of the vocabulary at `path`, each at its id; `size` and `first`: how many, and
    which come first.

    UserError for one that is damaged.
    """
    table = tables.read(path, tables.VOCAB)
    tokens = table["token"].combine_chunks()
    if size is not None and len(tokens) != size:
        raise refuse(str(path), f"{len(tokens)} ids", f"{size}, as vocab.json has", REPAIR_ADVICE)
    # not by pa.array, which imports pandas
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
    """The distinct tokens (`token`) and how often each occurs (`count`), in no particular order."""
    found = pc.value_counts(tokens.flatten())
    return _counts(found.field("values"), found.field("counts"))


def merge(one: pa.Table, other: pa.Table) -> pa.Table:
    """Two tables of counts added up."""
    summed = pa.concat_tables([one, other]).group_by("token").aggregate([("count", "sum")])
    return _counts(summed["token"], summed["count_sum"])


def table(counts: pa.Table, config: Vocab) -> pa.Table:
    """The vocabulary (`tables.VOCAB`) of word or character counts: specials, then tokens by count
    down and token up.

    The count of `<unk>` is that of all tokens left out. A token of the text that is written like a
    special is never one; only `<unk>` means what it says."""
    real = counts.filter(pc.invert(pc.is_in(counts["token"], pa.array(SPECIALS))))
    often = real.filter(pc.greater_equal(real["count"], config.min_count))
    ordered = often.sort_by([("count", "descending"), ("token", "ascending")])
    kept = ordered if config.size is None else ordered.slice(0, config.size - len(SPECIALS))
    left_out = (pc.sum(counts["count"]).as_py() or 0) - (pc.sum(kept["count"]).as_py() or 0)
    specials = [left_out if number == UNK else 0 for number in range(len(SPECIALS))]
    tokens = pa.concat_arrays([pa.array(SPECIALS), kept["token"].combine_chunks()])
    numbers = pa.concat_arrays([pa.array(specials, pa.int64()), kept["count"].combine_chunks()])
    return pa.table(
        [tokens, pa.array(range(len(tokens)), pa.int32()), numbers], schema=tables.VOCAB
    )


def _counts(tokens: pa.Array, counts: pa.Array) -> pa.Table:
    return pa.table([tokens, counts], names=["token", "count"])
