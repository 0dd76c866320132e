"""The codec of texts that users type."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core import tables
from pipeline.text.encode import Codec


class _LowercaseCodec(Codec):
    """Codec that reads capital letters as small ones."""

    def encode(self, texts: pa.StringArray) -> pa.ListArray:
        return super().encode(pc.utf8_lower(texts))

    def unknown(self, text: str) -> list[str]:
        return super().unknown(text.lower())

    def name_unknown(self, names: Sequence[str], text: str) -> list[str]:
        return super().name_unknown(names, text.lower())


def input_codec(vocab: Path, side: str) -> Codec:
    """Codec of texts from users. If the training text has no capital letters, it reads theirs as
    small ones."""
    codec = Codec.load(vocab, side)
    counts = tables.read(vocab / f"{side}.parquet", tables.VOCAB)
    tokens = codec.tokens(counts.filter(pc.field("count") > 0)["id"].to_pylist())
    is_lowercase = all(token == token.lower() for token in tokens)
    return _LowercaseCodec.load(vocab, side) if is_lowercase else codec
