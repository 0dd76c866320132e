"""A corpus's raw files to tokens: `python -m stages.tokenize CORPUS --params P --raw R --out O
--metrics M`.

Writes `<split>.parquet`, `rejects.parquet` (rows that cannot be used, with the reason), a copy of
the raw folder's `limits.json` if it has one, `judges/<order>_<name>.parquet` for what word vectors
of the corpus are judged by, and the metrics: rows, tokens, characters, rejects by reason,
duplicates, overlap with train. Memory does not grow with the corpus, save for 8 bytes per row and
side to count duplicates and overlap."""

import argparse
import json
import shutil
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline import shards
from pipeline.core import config, params, stage_arguments, tables
from pipeline.core.atomic import atomic_dir, atomic_file
from pipeline.core.errors import exit_with, refuse
from pipeline.text.rows import (
    REQUIRED_SPLITS,
    UNSPLIT,
    Rows,
    Splitter,
    SplitWriter,
    prepare_batch,
    rejects,
)
from pipeline.text.tokens import Text, normalise


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--params", type=Path, required=True)
    parser.add_argument(
        "--raw", type=Path, required=True, help="the folder that the download stage wrote"
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--metrics", type=Path, required=True)
    args = stage_arguments.parse(parser, "corpora")
    block, where = params.corpus(args.params, args.corpus), f"corpora.{args.corpus}"
    compute = params.compute(args.params)
    with atomic_dir(args.out) as out:
        found = tokenize(block, where, args.raw, out, compute)
        if (args.raw / "limits.json").exists():
            shutil.copyfile(args.raw / "limits.json", out / "limits.json")
        write_judges(block, where, args.raw, out / "judges")
        with atomic_file(args.metrics) as metrics:
            metrics.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def tokenize(
    block: params.Corpus, where: str, raw: Path, out: Path, compute: params.Compute
) -> dict[str, Any]:
    """Read the corpus `block` (its dotted name is `where`) from `raw` and fill the folder `out`;
    the metrics.

    Workers normalise and split into tokens, a batch each; what looks beyond its batch (the split of
    a row, duplicates, overlap) is done here, in the corpus's order."""
    reader = config.named_module("pipeline.corpora", block.format, f"{where}.format")
    reading = config.load(reader.Config, block.read, f"{where}.read")
    text: Text = config.load(Text, block.text, f"{where}.text")
    how = params.split(block, where)
    if block.limit is not None and block.limit < 1:
        raise refuse(f"{where}.limit", block.limit, "at least 1, or null for every row")
    rows = Rows(lambda: reader.read(raw, reading), block.limit)
    splitter = Splitter(how, rows.count() if how is not None and how.method == "contiguous" else {})
    splits: dict[str, SplitWriter] = {}
    with ExitStack() as stack:
        rejected = stack.enter_context(tables.writer(out / "rejects.parquet", tables.REJECTS))
        prepared = stack.enter_context(
            shards.parallel_map(partial(prepare_batch, text=text), compute)
        )
        for name, ready in prepared(rows):
            if name == "valid" and isinstance(how, params.OutOfTrain):
                raise refuse(
                    f"{where}.split.method",
                    how.method,
                    "official",
                    "The corpus has a valid split of its own.",
                )
            for made in splitter.possible(name):
                if made not in splits:
                    splits[made] = SplitWriter(out / f"{made}.parquet", reader.KIND, stack)
            if not len(ready.reasons):
                continue
            names = splitter.names(name, ready)
            rejected.write_batch(rejects(names, ready))
            for made in pc.unique(names).to_pylist():
                splits[made].add(ready, pc.equal(names, made))
        for split in splits.values():
            split.flush()
    check(splits, how, block.limit, where)
    train = splits["train"]
    return {
        "blank_lines": rows.blank_lines,
        "splits": {
            name: split.metrics(None if split is train else train) for name, split in splits.items()
        },
    }


def write_judges(block: params.Corpus, where: str, raw: Path, out: Path) -> None:
    """The corpus's judges of word vectors, if it has any, numbered in their order, their words
    normalised as its text is."""
    reader = config.named_module("pipeline.corpora", block.format, f"{where}.format")
    text: Text = config.load(Text, block.text, f"{where}.text")
    if not hasattr(reader, "judges"):
        return
    for number, (name, table) in enumerate(
        reader.judges(raw, config.load(reader.Config, block.read, f"{where}.read"))
    ):
        out.mkdir(exist_ok=True)
        for i, field in enumerate(table.schema):
            if field.type == pa.string() and field.name not in ("class", "section"):
                words = normalise(
                    table[field.name].combine_chunks(), text.lowercase, text.letters_only
                )
                table = table.set_column(i, field, words)
        tables.write(out / f"{number}_{name}.parquet", table)


def check(
    splits: dict[str, SplitWriter], how: params.Splitting | None, limit: int | None, where: str
) -> None:
    """Refuse a corpus that lacks one of the splits that every run needs, or has one without
    rows."""
    if UNSPLIT in splits:
        raise refuse(
            f"{where}.split",
            "official" if how is None else how.method,
            "method: hash, contiguous or folds",
            f"read.files has {UNSPLIT!r}: it is to be split.",
        )
    for name in REQUIRED_SPLITS:
        if name not in splits:
            todo = f"Name files for {name}, or put all under {UNSPLIT!r} and say how to split."
            raise refuse(
                f"{where}.read",
                f"the splits {', '.join(splits)}",
                f"{', '.join(REQUIRED_SPLITS)}",
                todo,
            )
    for name, split in splits.items():
        if not split.rows:
            counted = sum(split.rejected.values())
            problem = f"no usable row for {name} ({counted} rejected)"
            raise refuse(
                _responsible(how, limit, where),
                problem,
                f"at least one in each of {', '.join(splits)}",
                "Read more rows.",
            )
    check_labels(splits, how, limit, where)


def check_labels(
    splits: dict[str, SplitWriter], how: params.Splitting | None, limit: int | None, where: str
) -> None:
    """Raise UserError if a needed split of a labelled corpus lacks a label: its scores would be
    those of another task.

    A further test set may have fewer labels, but none that train lacks.
    """
    labels = sorted({label for split in splits.values() for label in split.labels})
    lacking = (
        (name, label)
        for name in REQUIRED_SPLITS
        for label in labels
        if label not in splits[name].labels
    )
    name, label = next(lacking, ("", ""))
    if not name:
        return

    todo = "Read more rows, or leave the label out."
    if how is not None and how.method in ("hash", "folds"):
        todo = "Read more rows, or use method: contiguous, which divides the rows of each label."
    expected = f"every label in each of {', '.join(REQUIRED_SPLITS)}: {', '.join(labels[:10])}"
    expected += ", ..." if len(labels) > 10 else ""
    raise refuse(
        _responsible(how, limit, where), f"no row of the label {label} for {name}", expected, todo
    )


def _responsible(how: params.Splitting | None, limit: int | None, where: str) -> str:
    """Dotted key of the setting that decides which rows a split has."""
    return f"{where}.{'limit' if limit is not None else 'split' if how is not None else 'read'}"


if __name__ == "__main__":
    exit_with(main)
