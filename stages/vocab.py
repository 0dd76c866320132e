"""Build the vocabularies of the training split's tokens: `python -m stages.vocab CORPUS --params P
--tokens T --words W --out O`.

The words may be those of another corpus (`vocab.corpus`); labels are always those of the corpus.
A corpus without text has no words.
"""

import argparse
from collections.abc import Iterator
from functools import partial, reduce
from pathlib import Path

import pyarrow as pa

from pipeline.core import params, stage_arguments, tables
from pipeline.core.atomic import atomic_dir
from pipeline.core.errors import exit_with
from pipeline.text import batches, bpe, labels, shards, vocab
from pipeline.text.encode import Description
from pipeline.text.tokens import Text, load_text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for option, help_text in (
        ("--params", None),
        ("--tokens", "the folder that the tokenize stage wrote"),
        ("--words", "such a folder of `vocab.corpus`, whose tokens are counted"),
        ("--out", None),
    ):
        parser.add_argument(option, type=Path, required=True, help=help_text)
    arguments = stage_arguments.parse(parser, "corpora")

    where = f"corpora.{arguments.corpus}"
    block = params.corpus(arguments.params, arguments.corpus)
    text = load_text(block.text, block.text is not None, f"{where}.text")
    size = vocab.load_block(block.vocab, text is not None, f"{where}.vocab")
    if text is not None and text.level == "bpe" and isinstance(size, vocab.Vocab):
        vocab.check_pieces(size, f"{where}.vocab")

    train = arguments.tokens / "train.parquet"
    columns = tables.schema(train, *tables.TOKENS.values()).names
    with atomic_dir(arguments.out) as out:
        words = arguments.words / "train.parquet"
        sizes = {}
        if text is not None and isinstance(size, vocab.Vocab):
            is_pair = "source" in columns
            sizes = write(words, is_pair, text, size, params.compute(arguments.params), out)
        sides = tuple(sizes)
        if labels.SIDE in columns:
            label_table = labels.table(train)
            tables.write(out / f"{labels.SIDE}.parquet", label_table)
            sizes[labels.SIDE] = label_table.num_rows
        describe(text, size, sides, sizes).save(out)


def describe(
    text: Text | None,
    size: vocab.Vocab | vocab.NoVocab,
    sides: tuple[str, ...],
    sizes: dict[str, int],
) -> Description:
    """Describe the vocabulary, or the labels alone for a corpus without text."""
    if text is None or isinstance(size, vocab.NoVocab):
        return Description(
            level=None,
            lowercase=False,
            letters_only=False,
            share=True,
            sides=(),
            sizes=sizes,
        )
    return Description(
        level=text.level,
        lowercase=text.lowercase,
        letters_only=text.letters_only,
        share=size.share,
        sides=sides,
        sizes=sizes,
    )


def write(
    train: Path, pair: bool, text: Text, size: vocab.Vocab, compute: params.Compute, out: Path
) -> dict[str, int]:
    """Write the vocabulary of each side of `train`, or a shared one under each side's name.

    Returns the number of ids of each. Workers count, a batch at a time. The merges of BPE are
    learnt in this process: it reads the whole text, and `tokenizers` has its own threads.
    """
    choices = [table for kind, table in tables.TOKENS.items() if (kind == "pair") == pair]
    schema = tables.schema(train, *choices)

    # One group of sides, and one of columns, for each vocabulary.
    all_sides = ("source", "target") if pair else ("text",)
    groups = [all_sides] if size.share else [(side,) for side in all_sides]
    columns = [
        [name for side in sides for name in batches.token_columns(schema, side)] for sides in groups
    ]
    tokenizers = [
        bpe.train(_words(train, schema, names), size) if text.level == "bpe" else None
        for names in columns
    ]

    # Count the tokens of each group.
    count_batch = partial(batches.count, groups=list(zip(columns, tokenizers, strict=True)))
    with shards.parallel_map(count_batch, compute) as count:
        counted = [column for names in columns for column in names]
        counts = count(batch.select(counted) for batch in tables.batches(train, schema))
        totals = reduce(lambda total, more: list(map(vocab.merge, total, more)), counts)

    sizes = {}
    for sides, tokenizer, total in zip(groups, tokenizers, totals, strict=True):
        table = vocab.table(total, size) if tokenizer is None else bpe.table(tokenizer, total)
        # A shared vocabulary is written once for each side, so that readers need not know of it.
        for side in sides:
            tables.write(out / f"{side}.parquet", table)
            if tokenizer is not None:
                (out / f"{side}.tokenizer.json").write_text(
                    tokenizer.to_str(pretty=True), encoding="utf-8"
                )
            sizes[side] = table.num_rows
    return sizes


def _words(train: Path, schema: pa.Schema, columns: list[str]) -> Iterator[pa.ListArray]:
    """The tokens of the columns, a batch at a time."""
    for batch in tables.batches(train, schema):
        for column in columns:
            yield batch[column]


if __name__ == "__main__":
    exit_with(main)
