"""Tokens to ids with the corpus's vocabulary: `python -m stages.encode --params P --tokens T
--vocab V --out O`.

Writes one table per split and `encoded.json`: rows, tokens and unknown tokens of each split and
side."""

import argparse
import json
from collections import Counter
from functools import partial
from pathlib import Path

import pyarrow as pa

from pipeline import shards
from pipeline.core import params, stage_arguments, tables
from pipeline.core.atomic import atomic_dir
from pipeline.core.errors import exit_with
from pipeline.text import batches, labels
from pipeline.text.encode import Codec, describe

Over = shards.MapFunction[tuple[Path, pa.RecordBatch], tuple[pa.RecordBatch, dict[str, int]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--params", type=Path, required=True, help="for where to compute; nothing else in it counts"
    )
    parser.add_argument(
        "--tokens", type=Path, required=True, help="the folder that the tokenize stage wrote"
    )
    parser.add_argument(
        "--vocab", type=Path, required=True, help="the folder that the vocab stage wrote"
    )
    parser.add_argument("--out", type=Path, required=True)
    args = stage_arguments.parse(parser, "corpora", required=False)
    compute = params.compute(args.params)
    about = describe(args.vocab)
    codecs = {side: Codec.load(args.vocab, side) for side in about.sides}
    names = labels.load(args.vocab) if labels.SIDE in about.sizes else None
    kind = "labelled" if names is not None else "text" if "text" in codecs else "pair"
    one = partial(batches.encode, kind=kind, codecs=codecs, names=names)
    with atomic_dir(args.out) as out, shards.parallel_map(one, compute) as encoded:
        found = {}
        for path in sorted(args.tokens.glob("*.parquet")):
            if path.stem != "rejects":
                found[path.stem] = encode(path, kind, encoded, out / path.name)
        (out / "encoded.json").write_text(
            json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8"
        )


def encode(tokens: Path, kind: str, encoded: Over, out: Path) -> dict[str, int]:
    """One split's tokens to ids, batch by batch; the sums of what `batches.encode` counts."""
    before, after = batches.schemas(kind)
    found: Counter[str] = Counter()
    with tables.writer(out, after) as writer:
        needed = [name for name in before.names if name not in ("text", "source", "target")]
        for batch, counts in encoded(
            (tokens, batch.select(needed)) for batch in tables.batches(tokens, before)
        ):
            found.update(counts)
            writer.write_batch(batch)
    return dict(found)


if __name__ == "__main__":
    exit_with(main)
