"""Tokenize a corpus's raw files: `python -m stages.tokenize CORPUS --params P --raw R --out O
--metrics M`.

Writes:
- `<split>.parquet`: the usable rows of each split.
- `rejects.parquet`: the other rows, with the reason.
- `limits.json`: a copy of the raw folder's, if it has one.
- `benchmarks/<order>_<name>.parquet`: the corpus's benchmarks of word vectors.
- the metrics: rows, tokens, characters, rejects by reason, duplicates, overlap with train.

Memory does not grow with the corpus, except for 8 bytes per row and side, to count duplicates and
overlap."""

import argparse
import json
import shutil
from collections import Counter
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core import config, params, stage_arguments, tables
from pipeline.core.atomic import atomic_dir, atomic_file
from pipeline.core.errors import exit_with, refuse
from pipeline.corpora import kind_of
from pipeline.text import shards
from pipeline.text.rows import (
    REQUIRED_SPLITS,
    UNSPLIT,
    Rows,
    Splitter,
    SplitWriter,
    prepare_batch,
    rejects,
)
from pipeline.text.tokens import Text, load_text, normalise


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for option, help_text in (
        ("--params", None),
        ("--raw", "the folder that the download stage wrote"),
        ("--out", None),
        ("--metrics", None),
    ):
        parser.add_argument(option, type=Path, required=True, help=help_text)
    arguments = stage_arguments.parse(parser, "corpora")

    where = f"corpora.{arguments.corpus}"
    block = params.corpus(arguments.params, arguments.corpus)
    compute = params.compute(arguments.params)
    limits = arguments.raw / "limits.json"
    with atomic_dir(arguments.out) as out:
        metrics = tokenize(block, where, arguments.raw, out, compute)
        if limits.exists():
            shutil.copyfile(limits, out / "limits.json")
        write_benchmarks(block, where, arguments.raw, out / "benchmarks")
        with atomic_file(arguments.metrics) as file:
            file.write_text(json.dumps(metrics, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def tokenize(
    block: params.Corpus, where: str, raw: Path, out: Path, compute: params.Compute
) -> dict[str, Any]:
    """Tokenize the corpus `block` (its dotted name is `where`) from `raw` into the folder `out`.

    Returns the metrics. Workers normalise and split into tokens, a batch at a time. The rest needs
    more than one batch (the split of a row, duplicates, overlap): it is done here, in the corpus's
    order.
    """
    reader = config.named_module("pipeline.corpora", block.format, f"{where}.format")
    read_config = config.load(reader.Config, block.read, f"{where}.read")
    kind = kind_of(reader, read_config)
    text = load_text(block.text, tables.has_text(kind), f"{where}.text")
    split_config = params.split(block, where)
    if block.limit is not None and block.limit < 1:
        raise refuse(f"{where}.limit", block.limit, "at least 1, or null for every row")

    # Contiguous splits depend on the number of rows, so that the corpus is read twice.
    rows = Rows(lambda: reader.read(raw, read_config), block.limit)
    is_contiguous = split_config is not None and split_config.method == "contiguous"
    splitter = Splitter(split_config, rows.count() if is_contiguous else {})
    splits: dict[str, SplitWriter] = {}

    with ExitStack() as stack:
        rejected = stack.enter_context(tables.writer(out / "rejects.parquet", tables.REJECTS))
        keep_blank = getattr(reader, "BLANK_LINES_ARE_ROWS", False)
        prepare = stack.enter_context(
            shards.parallel_map(partial(prepare_batch, text=text, keep_blank=keep_blank), compute)
        )
        for file_split, prepared in prepare(rows):
            if file_split == "valid" and isinstance(split_config, params.OutOfTrain):
                raise refuse(
                    f"{where}.split.method",
                    split_config.method,
                    "official",
                    "The corpus has a valid split of its own.",
                )

            # Every split that the rows may get has a file, even if none of them does.
            for name in splitter.possible(file_split):
                if name not in splits:
                    splits[name] = SplitWriter(out / f"{name}.parquet", kind, stack)
            if not len(prepared.reasons):
                continue

            names = splitter.names(file_split, prepared)
            rejected.write_batch(rejects(names, prepared))
            for name in pc.unique(names).to_pylist():
                splits[name].add(prepared, pc.equal(names, name))
        for split in splits.values():
            split.flush()

    check(splits, split_config, block.limit, where)
    train = splits["train"]
    return {
        "blank_lines": rows.blank_lines,
        "splits": {
            name: split.metrics(None if split is train else train) for name, split in splits.items()
        },
    }


def write_benchmarks(block: params.Corpus, where: str, raw: Path, out: Path) -> None:
    """Write the corpus's benchmarks of word vectors (word similarity, analogies, ...), if any.

    They are numbered in their order; their words are normalised as the corpus's text is.
    """
    reader = config.named_module("pipeline.corpora", block.format, f"{where}.format")
    if not hasattr(reader, "benchmarks"):
        return

    text: Text = config.load(Text, block.text, f"{where}.text")
    read_config = config.load(reader.Config, block.read, f"{where}.read")
    for number, (name, table) in enumerate(reader.benchmarks(raw, read_config)):
        out.mkdir(exist_ok=True)
        for i, field in enumerate(table.schema):
            if field.type == pa.string() and field.name not in ("class", "section"):
                column = table[field.name].combine_chunks()
                words = normalise(column, text.lowercase, text.letters_only)
                table = table.set_column(i, field, words)
        tables.write(out / f"{number}_{name}.parquet", table)


def check(
    splits: dict[str, SplitWriter],
    split_config: params.Splitting | None,
    limit: int | None,
    where: str,
) -> None:
    """Refuse a corpus that lacks one of the splits that every run needs, or has one without rows
    or without one of the corpus's labels."""
    if UNSPLIT in splits:
        raise refuse(
            f"{where}.split",
            "official" if split_config is None else split_config.method,
            "method: hash, contiguous or folds",
            f"read.files has {UNSPLIT!r}: it is to be split.",
        )

    for name in REQUIRED_SPLITS:
        if name not in splits:
            raise refuse(
                f"{where}.read",
                f"the splits {', '.join(splits)}",
                f"{', '.join(REQUIRED_SPLITS)}",
                f"Name files for {name}, or put all under {UNSPLIT!r} and say how to split.",
            )
    for name, split in splits.items():
        if not split.rows:
            rejected = sum(split.rejected.values())
            reasons = sum((split.rejected for split in splits.values()), Counter())
            todo = "Read more rows."
            if reasons:
                todo += f" Most are rejected for: {reasons.most_common(1)[0][0]}."
            raise refuse(
                _responsible(split_config, limit, where),
                f"no usable row for {name} ({rejected} rejected)",
                f"at least one in each of {', '.join(splits)}",
                todo,
            )
    _check_labels(splits, split_config, limit, where)


def _check_labels(
    splits: dict[str, SplitWriter],
    split_config: params.Splitting | None,
    limit: int | None,
    where: str,
) -> None:
    """Refuse a corpus if one of the splits that every run needs lacks one of its labels: the scores
    of that split would be those of another task. A further test set may have fewer labels."""
    labels = sorted({label for split in splits.values() for label in split.labels})
    lacking = (
        (name, label)
        for name in REQUIRED_SPLITS
        for label in labels
        if label not in splits[name].labels
    )
    missing = next(lacking, None)
    if missing is None:
        return
    name, label = missing

    todo = "Read more rows, or leave the label out."
    if split_config is not None and split_config.method in ("hash", "folds"):
        todo = "Read more rows, or use method: contiguous, which divides the rows of each label."
    expected = f"every label in each of {', '.join(REQUIRED_SPLITS)}: {', '.join(labels[:10])}"
    expected += ", ..." if len(labels) > 10 else ""
    raise refuse(
        _responsible(split_config, limit, where),
        f"no row of the label {label} for {name}",
        expected,
        todo,
    )


def _responsible(split_config: params.Splitting | None, limit: int | None, where: str) -> str:
    """Dotted key of the setting that decides which rows a split has."""
    if limit is not None:
        return f"{where}.limit"
    return f"{where}.read" if split_config is None else f"{where}.split"


if __name__ == "__main__":
    exit_with(main)
