"""One test set as two contenders read it: the same raw text, each normalised, split and numbered as
its vocabulary says.

So a test set keeps its rows whatever became of the corpus's `text:` block and vocabulary, and both
are asked the same."""

import hashlib
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.core import tables
from pipeline.text.encode import Description, describe
from pipeline.text.rows import PreparedBatch, prepare
from pipeline.text.splits import Digests, digests
from pipeline.text.tokens import Text, normalise

TEST = "test"  # the split that is tested; others are looked at by guards
_OTHER_TABLES = {"train", "valid", "rejects"}
_TOKENS = tuple(tables.TOKENS.values())
_EXTRA_INPUTS = (
    "limits.json",
    "judges",
)  # what else the evaluate stage reads in a folder of tokens

Mask = NDArray[np.bool_]


class Incomparable(Exception):
    """Two contenders that cannot be compared: there is no promotion, and a reason for the
    record."""


@dataclass(frozen=True, slots=True)
class Tokenization:
    """Tokenization of a contender: its vocabulary's description, and the md5 of each side's ids."""

    about: Description
    sides: dict[str, str]

    @property
    def case(self) -> tuple[bool, bool]:
        """Settings that change the raw text: two models with unlike settings are models of unlike
        texts."""
        return self.about.lowercase, self.about.letters_only

    def same_ids(self, other: "Way", side: str) -> bool:
        """Return whether the same text becomes the same ids on that side."""
        same_text = (self.case, self.about.level) == (other.case, other.about.level)
        return same_text and self.sides[side] == other.sides.get(side)


def list_splits(tokens: Path) -> list[str]:
    """The splits of a folder of tokens that a test set has, `test` first; Incomparable if that is
    missing."""
    found = {file.stem for file in tokens.glob("*.parquet")} - _OTHER_TABLES
    if TEST not in found:
        raise Incomparable(f"{tokens} has no test split")
    return sorted(found, key=lambda split: (split != TEST, split))


def retokenize(tokens: Path, about: Description, out: Path) -> None:
    """The test set in the folder `tokens` as the vocabulary `about` reads it, in the folder
    `out`."""
    out.mkdir(parents=True)
    for split in list_splits(tokens):
        schema = tables.schema(tokens / f"{split}.parquet", *_TOKENS)
        with tables.writer(out / f"{split}.parquet", schema) as writer:
            for batch in tables.batches(tokens / f"{split}.parquet", schema):
                made = _prepare(batch, about)
                if made.reasons.null_count < len(batch):
                    first = pc.index(pc.is_valid(made.reasons), True).as_py()
                    raise Incomparable(
                        f"row {batch['row'][first]} of {split} is empty as one of them reads it"
                    )
                writer.write_batch(
                    pa.record_batch([batch["row"], *made.columns.values()], schema=schema)
                )
    for name in _EXTRA_INPUTS:
        if (tokens / name).exists():
            (shutil.copytree if (tokens / name).is_dir() else shutil.copyfile)(
                tokens / name, out / name
            )


def fair_rows(tokens: Path, split: str, champions: Path, challengers: Path) -> Mask:
    """Mark rows of the split seen in training by both contenders or by neither, `champions` and
    `challengers` being the folders of tokens that they were trained on. A corpus that grew, and is
    split anew, moves rows from test to train."""
    keys = _row_digests(tokens / f"{split}.parquet")
    if champions == challengers:
        return np.ones(len(keys), np.bool_)
    one, other = (
        np.isin(keys, _row_digests(folder / "train.parquet")) for folder in (champions, challengers)
    )
    return ~(one ^ other)


def read_tokenization(vocab: Path) -> Tokenization:
    """Read the tokenization of the contender whose vocabulary is in the folder."""
    about = describe(vocab)
    return Tokenization(about, {side: md5(sorted(vocab.glob(f"{side}.*"))) for side in about.sizes})


def md5(files: Iterable[Path]) -> str:
    """One digest of the files' names and bytes, in the order given."""
    total = _md5()
    for file in files:
        with file.open("rb") as opened:
            total.update(file.name.encode() + b"\0" + hashlib.file_digest(opened, _md5).digest())
    return total.hexdigest()


def test_set_files(tokens: Path) -> list[Path]:
    """All that a test set is made of: the tables of its splits and what lies beside them."""
    beside = [tokens / "limits.json", *sorted((tokens / "judges").glob("*.parquet"))]
    return [
        *(tokens / f"{split}.parquet" for split in list_splits(tokens)),
        *(file for file in beside if file.exists()),
    ]


def _md5() -> "hashlib._Hash":
    return hashlib.md5(usedforsecurity=False)


def _prepare(batch: pa.RecordBatch, about: Description) -> PreparedBatch:
    text = Text(
        level=about.level,
        lowercase=about.lowercase,
        letters_only=about.letters_only,
        max_tokens=None,
    )
    return prepare(batch.append_column("reject", pa.nulls(len(batch), pa.string())), text)


def _row_digests(path: Path) -> Digests:
    """A digest of each row's first side, regardless of case, as splits are made by."""
    schema = tables.schema(path, *_TOKENS)
    side = "source" if "source" in schema.names else "text"
    found = [digests(normalise(batch[side], True, False)) for batch in tables.batches(path, schema)]
    return np.concatenate(found) if found else np.zeros(0, np.uint64)
