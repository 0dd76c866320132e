"""The training split's tokens to vocabularies: `python -m stages.vocab CORPUS --params P --tokens T
--words W --out O`.

The words may be another corpus's (`vocab.corpus`); labels are always the corpus's own.
"""

import argparse
from collections.abc import Iterator
from functools import partial, reduce
from pathlib import Path

import pyarrow as pa

from pipeline import shards
from pipeline.core import config, params, stage_arguments, tables
from pipeline.core.atomic import atomic_dir
from pipeline.core.errors import exit_with
from pipeline.text import batches, bpe, labels, vocab
from pipeline.text.encode import Description
from pipeline.text.tokens import Text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--params", type=Path, required=True)
    parser.add_argument(
        "--tokens", type=Path, required=True, help="the folder that the tokenize stage wrote"
    )
    parser.add_argument(
        "--words",
        type=Path,
        required=True,
        help="the same of `vocab.corpus`, whose text is counted",
    )
    parser.add_argument("--out", type=Path, required=True)
    args = stage_arguments.parse(parser, "corpora")
    block, where = params.corpus(args.params, args.corpus), f"corpora.{args.corpus}"
    text: Text = config.load(Text, block.text, f"{where}.text")
    size: vocab.Vocab = config.load(vocab.Vocab, block.vocab, f"{where}.vocab")
    if text.level == "bpe":
        vocab.check_pieces(size, f"{where}.vocab")
    train = args.tokens / "train.parquet"
    own = tables.schema(train, *tables.TOKENS.values())
    with atomic_dir(args.out) as out:
        sizes = write(
            args.words / "train.parquet",
            "source" in own.names,
            text,
            size,
            params.compute(args.params),
            out,
        )
        sides = tuple(sizes)
        if labels.SIDE in own.names:
            made = labels.table(train)
            tables.write(out / f"{labels.SIDE}.parquet", made)
            sizes[labels.SIDE] = made.num_rows
        Description(
            level=text.level,
            lowercase=text.lowercase,
            letters_only=text.letters_only,
            share=size.share,
            sides=sides,
            sizes=sizes,
        ).save(out)


def write(
    train: Path, pair: bool, text: Text, size: vocab.Vocab, compute: params.Compute, out: Path
) -> dict[str, int]:
    """One vocabulary per side of `train`, or one for both, written under each side's name; how many
    ids each has.

    Workers count, a batch each. What bpe merges is learnt here: it is one text's, and `tokenizers`
    has threads of its own."""
    choices = [table for kind, table in tables.TOKENS.items() if (kind == "pair") == pair]
    schema = tables.schema(train, *choices)
    every = ("source", "target") if pair else ("text",)
    groups = [every] if size.share else [(side,) for side in every]
    columns = [[batches.COLUMNS[side] for side in sides] for sides in groups]
    learnt = [
        bpe.train(_words(train, schema, names), size) if text.level == "bpe" else None
        for names in columns
    ]
    one = partial(batches.count, groups=list(zip(columns, learnt, strict=True)))
    with shards.parallel_map(one, compute) as counted:
        needed = [column for names in columns for column in names]
        found = counted(batch.select(needed) for batch in tables.batches(train, schema))
        totals = reduce(lambda some, more: list(map(vocab.merge, some, more)), found)
    sizes = {}
    for sides, tokenizer, total in zip(groups, learnt, totals, strict=True):
        made = vocab.table(total, size) if tokenizer is None else bpe.table(tokenizer, total)
        for side in sides:
            tables.write(out / f"{side}.parquet", made)
            if tokenizer is not None:
                (out / f"{side}.tokenizer.json").write_text(
                    tokenizer.to_str(pretty=True), encoding="utf-8"
                )
            sizes[side] = made.num_rows
    return sizes


def _words(train: Path, schema: pa.Schema, columns: list[str]) -> Iterator[pa.ListArray]:
    for batch in tables.batches(train, schema):
        for column in columns:
            yield batch[column]


if __name__ == "__main__":
    exit_with(main)
