"""Functions of the stages vocab and encode on one batch, for parallel processes."""

from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import Tokenizer

from pipeline.core import tables
from pipeline.text import bpe, labels, vocab
from pipeline.text.encode import Codec
from pipeline.text.specials import UNK

# Columns of tokens by the side of the vocabulary; a labelled pair has two of one side.
_SIDES = {"text": "tokens", "source": "source_tokens", "target": "target_tokens"}
_PAIR = ("premise_tokens", "hypothesis_tokens")
_ENCODED = {
    "text": tables.ENCODED_TEXT,
    "pair": tables.ENCODED_PAIR,
    "labelled": tables.ENCODED_LABELLED,
    "labelled_pair": tables.ENCODED_LABELLED_PAIR,
}
_NUMBERED = pa.field(labels.SIDE, pa.int32())


def count(
    batch: pa.RecordBatch, groups: Sequence[tuple[Sequence[str], Tokenizer | None]]
) -> list[pa.Table]:
    """Count the words in the columns of each group, or their subwords if it has a tokenizer.

    Each group becomes one vocabulary: `source` and `target` together if it is shared."""
    group_counts = []
    for columns, tokenizer in groups:
        counts = (
            vocab.count(batch[c]) if tokenizer is None else bpe.count(tokenizer, batch[c])
            for c in columns
        )
        group_counts.append(reduce(vocab.merge, counts))
    return group_counts


def encode(
    item: tuple[Path, pa.RecordBatch],
    kind: str,
    codecs: Mapping[str, Codec],
    names: pa.StringArray | None,
) -> tuple[pa.RecordBatch, dict[str, int]]:
    """Encode a batch of tokens as ids and, given their `names`, its labels as numbers; return the
    encoded batch and the numbers of rows, tokens and unknown tokens.

    The path of the batch is for UserError about a label that no training row has."""
    path, batch = item
    if not tables.has_text(kind):
        return _encode_label(batch, schemas(kind)[1], names, path), {"rows": len(batch)}

    columns = [batch["row"]]
    counts = {"rows": len(batch)}
    for side, codec in codecs.items():
        ids = [codec.encode_tokens(batch[name]) for name in token_columns(batch.schema, side)]
        flat = pa.chunked_array([part.flatten() for part in ids])
        counts[f"{side}_tokens"] = len(flat)
        counts[f"{side}_unknown"] = pc.sum(pc.equal(flat, UNK)).as_py() or 0
        columns += ids

    if kind == "text":
        columns.append(batch["paragraph"])
    if names is not None:
        columns.append(labels.encode(batch["label"], names, path))
    return pa.record_batch(columns, schema=_ENCODED[kind]), counts


def token_columns(schema: pa.Schema, side: str) -> tuple[str, ...]:
    """Names of the columns of tokens that the vocabulary of `side` encodes."""
    return _PAIR if _PAIR[0] in schema.names else (_SIDES[side],)


def _encode_label(
    batch: pa.RecordBatch, schema: pa.Schema, names: pa.StringArray | None, path: Path
) -> pa.RecordBatch:
    """Copy a batch of rows without text, with the number of the label if they have one."""
    if names is None:
        return batch
    numbers = labels.encode(batch[labels.SIDE], names, path)
    place = schema.get_field_index(labels.SIDE)
    return batch.set_column(place, _NUMBERED, numbers)


def schemas(kind: str) -> tuple[pa.Schema, pa.Schema]:
    """Schemas before and after `encode`, by the kind of corpus."""
    before = tables.TOKENS[kind]
    if tables.has_text(kind):
        return before, _ENCODED[kind]
    if labels.SIDE not in before.names:
        return before, before
    return before, before.set(before.get_field_index(labels.SIDE), _NUMBERED)
