"""Encode tokens as ids of the corpus's vocabulary: `python -m stages.encode --params P --tokens T
--vocab V --out O`. Rows without text are copied.

Writes one table per split and `encoded.json`: rows, tokens and unknown tokens of each split and
side."""

import argparse
import json
from collections import Counter
from functools import partial
from pathlib import Path

import pyarrow as pa

from pipeline.core import params, stage_arguments, tables
from pipeline.core.atomic import atomic_dir
from pipeline.core.errors import exit_with
from pipeline.text import batches, labels, shards
from pipeline.text.encode import Codec, describe
from pipeline.text.tokens import SIDES

Over = shards.MapFunction[tuple[Path, pa.RecordBatch], tuple[pa.RecordBatch, dict[str, int]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for option, help_text in (
        ("--params", "for where to compute; nothing else in it counts"),
        ("--tokens", "the folder that the tokenize stage wrote"),
        ("--vocab", "the folder that the vocab stage wrote"),
        ("--out", None),
    ):
        parser.add_argument(option, type=Path, required=True, help=help_text)
    arguments = stage_arguments.parse(parser, "corpora", required=False)

    compute = params.compute(arguments.params)
    vocab = describe(arguments.vocab)
    codecs = {side: Codec.load(arguments.vocab, side) for side in vocab.sides}
    names = labels.load(arguments.vocab) if labels.SIDE in vocab.sizes else None
    paths = [path for path in sorted(arguments.tokens.glob("*.parquet")) if path.stem != "rejects"]
    kind = "text" if "text" in codecs else "pair"
    if (names is not None or not codecs) and paths:
        kind = tables.kind(paths[0])

    # Workers encode, a batch at a time.
    encode_batch = partial(batches.encode, kind=kind, codecs=codecs, names=names)
    with atomic_dir(arguments.out) as out, shards.parallel_map(encode_batch, compute) as encoded:
        counts = {}
        for path in paths:
            counts[path.stem] = encode(path, kind, encoded, out / path.name)
        text = json.dumps(counts, indent=1, sort_keys=True)
        (out / "encoded.json").write_text(text + "\n", encoding="utf-8")


def encode(tokens: Path, kind: str, encoded: Over, out: Path) -> dict[str, int]:
    """Encode one split, batch by batch; return the sums of the counts of `batches.encode`."""
    token_schema, id_schema = batches.schemas(kind)
    total: Counter[str] = Counter()
    # The raw texts are not needed: workers get the tokens only.
    columns = [name for name in token_schema.names if name not in SIDES]
    with tables.writer(out, id_schema) as writer:
        for batch, counts in encoded(
            (tokens, batch.select(columns)) for batch in tables.batches(tokens, token_schema)
        ):
            total.update(counts)
            writer.write_batch(batch)
    return dict(total)


if __name__ == "__main__":
    exit_with(main)
