"""Work of the stages vocab and encode on one batch, which another process can do."""

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

COLUMNS = {"text": "tokens", "source": "source_tokens", "target": "target_tokens"}
_ENCODED = {
    "text": tables.ENCODED_TEXT,
    "pair": tables.ENCODED_PAIR,
    "labelled": tables.ENCODED_LABELLED,
}


def count(
    batch: pa.RecordBatch, groups: Sequence[tuple[Sequence[str], Tokenizer | None]]
) -> list[pa.Table]:
    """Each group's counts in a batch of tokens: of the words in its columns, or of their pieces if
    it has a tokenizer."""
    found = []
    for columns, tokenizer in groups:
        counts = (
            vocab.count(batch[c]) if tokenizer is None else bpe.count(tokenizer, batch[c])
            for c in columns
        )
        found.append(reduce(vocab.merge, counts))
    return found


def encode(
    told: tuple[Path, pa.RecordBatch],
    kind: str,
    codecs: Mapping[str, Codec],
    names: pa.StringArray | None,
) -> tuple[pa.RecordBatch, dict[str, int]]:
    """A batch of tokens to ids, and its labels, if there are `names`, to numbers; how many rows,
    tokens and unknown tokens each side has. The path says whose batch it is, for UserError about a
    label that no training row has."""
    path, batch = told
    columns, found = [batch["row"]], {"rows": len(batch)}
    for side, codec in codecs.items():
        ids = codec.encode_tokens(batch[COLUMNS[side]])
        found[f"{side}_tokens"] = len(ids.flatten())
        found[f"{side}_unknown"] = pc.sum(pc.equal(ids.flatten(), UNK)).as_py() or 0
        columns.append(ids)
    if kind == "text":
        columns.append(batch["paragraph"])
    if names is not None:
        columns.append(labels.encode(batch["label"], names, path))
    return pa.record_batch(columns, schema=_ENCODED[kind]), found


def schemas(kind: str) -> tuple[pa.Schema, pa.Schema]:
    """The tables before and after `encode`, by the kind of corpus."""
    return tables.TOKENS[kind], _ENCODED[kind]
