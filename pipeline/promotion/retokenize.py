"""Retokenization: one test set in the tokens of each contender.

The raw text is the same for both; each normalises, splits and numbers it by its own vocabulary. A
test set thus keeps its rows when the corpus's `text:` block or vocabulary changes, and both
contenders are evaluated on the same rows."""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.core import tables
from pipeline.core.digest import add_file, new_digest
from pipeline.text.encode import Description, describe
from pipeline.text.rows import prepare
from pipeline.text.splits import Digests, digests, value_digests
from pipeline.text.tokens import SIDES, Text, normalise

TEST = "test"  # the split of the significance test; guards read the others
_OTHER_TABLES = {"train", "valid", "rejects"}
_TOKENS = tuple(tables.TOKENS.values())
# what else the evaluate stage reads next to the tokens, by the name that it reads; the benchmarks
# of test sets of older versions of the project are in `judges`
_EXTRA_INPUTS = {"limits.json": "limits.json", "benchmarks": "benchmarks", "judges": "benchmarks"}
_BENCHMARKS = (
    tables.BENCHMARK_CLASSES,
    tables.BENCHMARK_SIMILARITY,
    tables.BENCHMARK_ANALOGIES,
)

Mask = NDArray[np.bool_]


class Incomparable(Exception):
    """Two contenders that cannot be compared; the message is the reason for the record."""


@dataclass(frozen=True, slots=True)
class Tokenization:
    """Tokenization of a contender: the description of its vocabulary, and the md5 of each side's
    ids."""

    description: Description
    side_digests: dict[str, str]

    @property
    def normalization(self) -> tuple[bool, bool]:
        """Settings that change the raw text: models with different ones model different texts."""
        return self.description.lowercase, self.description.letters_only

    def same_ids(self, other: "Tokenization", side: str) -> bool:
        """Return whether the same text becomes the same ids on that side."""
        same_text = (self.normalization, self.description.level) == (
            other.normalization,
            other.description.level,
        )
        return same_text and self.side_digests[side] == other.side_digests.get(side)


def list_splits(tokens: Path) -> list[str]:
    """Return the splits of a test set, `test` first; raise Incomparable if that is missing."""
    splits = {file.stem for file in tokens.glob("*.parquet")} - _OTHER_TABLES
    if TEST not in splits:
        raise Incomparable(f"{tokens} has no test split")
    return sorted(splits, key=lambda split: (split != TEST, split))


def retokenize(tokens: Path, description: Description, out: Path) -> None:
    """Write the test set `tokens` to the folder `out` in the tokens of a vocabulary; rows without
    text are copied.

    Raises Incomparable for a row that is empty under the vocabulary's normalization."""
    out.mkdir(parents=True)
    for split in list_splits(tokens):
        if description.level is None:
            shutil.copyfile(tokens / f"{split}.parquet", out / f"{split}.parquet")
            continue

        # No limit of tokens: it would reject rows by one contender's tokenization.
        text = Text(
            level=description.level,
            lowercase=description.lowercase,
            letters_only=description.letters_only,
            max_tokens=None,
        )
        schema = tables.schema(tokens / f"{split}.parquet", *_TOKENS)
        with tables.writer(out / f"{split}.parquet", schema) as writer:
            for batch in tables.batches(tokens / f"{split}.parquet", schema):
                unmarked = batch.append_column("reject", pa.nulls(len(batch), pa.string()))
                rows = prepare(unmarked, text)
                # Every row must remain: both contenders are compared row by row.
                if rows.reasons.null_count < len(batch):
                    first = pc.index(pc.is_valid(rows.reasons), True).as_py()
                    raise Incomparable(
                        f"row {batch['row'][first]} of {split} is empty in the tokens of one of "
                        "them"
                    )
                writer.write_batch(
                    pa.record_batch([batch["row"], *rows.columns.values()], schema=schema)
                )

    for name, new_name in _EXTRA_INPUTS.items():
        source = tokens / name
        if source.is_dir():
            shutil.copytree(source, out / new_name)
        elif source.exists():
            shutil.copyfile(source, out / new_name)


def fair_rows(tokens: Path, split: str, champion: Path, challenger: Path) -> Mask:
    """Mark the rows of the split that both contenders saw in training, or neither.

    `champion` and `challenger` are the folders of tokens that they were trained on. A corpus that
    grew is split again, which moves rows from test to train."""
    # By content, since row numbers differ between corpora.
    keys = _row_digests(tokens / f"{split}.parquet")
    if champion == challenger:
        return np.ones(len(keys), np.bool_)

    in_champion, in_challenger = (
        np.isin(keys, _row_digests(folder / "train.parquet")) for folder in (champion, challenger)
    )
    return ~(in_champion ^ in_challenger)


def read_tokenization(vocab: Path) -> Tokenization:
    """Read the tokenization of the contender whose vocabulary is in the folder."""
    description = describe(vocab)
    side_digests = {side: md5(sorted(vocab.glob(f"{side}.*"))) for side in description.sizes}
    return Tokenization(description, side_digests)


def md5(files: Iterable[Path]) -> str:
    """One digest of the files' names and bytes, in the order given."""
    total = new_digest("md5")
    for path in files:
        add_file(total, path.name, path)
    return total.hexdigest()


def test_set_files(tokens: Path) -> list[Path]:
    """All files of a test set: the tables of its splits, and the other inputs of evaluate."""
    extra = [
        file
        for name in _EXTRA_INPUTS
        for file in [tokens / name, *sorted((tokens / name).glob("*.parquet"))]
    ]
    return [
        *(tokens / f"{split}.parquet" for split in list_splits(tokens)),
        *(file for file in extra if file.is_file()),
    ]


def test_set_rows(tokens: Path, has_splits: bool) -> Digests:
    """A 64-bit digest of each row of the test split or, without splits, of the first benchmark."""
    if has_splits:
        return _row_digests(tokens / f"{TEST}.parquet")

    benchmarks = [file for file in test_set_files(tokens) if file.parent.name in _EXTRA_INPUTS]
    if not benchmarks:
        return np.zeros(0, np.uint64)
    first = min(benchmarks, key=lambda file: int(file.stem.partition("_")[0]))
    table = tables.read(first, tables.schema(first, *_BENCHMARKS))
    texts = [table[field.name] for field in table.schema if field.type == pa.string()]
    joined = pc.binary_join_element_wise(*texts, "\t", null_handling="replace")
    return digests(joined.combine_chunks())


def _row_digests(path: Path) -> Digests:
    """Digest each row's first side in lower case, or its values if it has no text: by these the
    corpus is split too."""
    schema = tables.schema(path, *_TOKENS)
    if not tables.has_text(tables.kind(path)):
        values = [value_digests(batch) for batch in tables.batches(path, schema)]
        return np.concatenate(values) if values else np.zeros(0, np.uint64)

    side = next(name for name in SIDES if name in schema.names)
    parts = [digests(normalise(batch[side], True, False)) for batch in tables.batches(path, schema)]
    return np.concatenate(parts) if parts else np.zeros(0, np.uint64)
