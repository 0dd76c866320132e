"""The built-in stories of `pipeline/grammars/toy_story.py`: one Parquet file of `tables.RAW_TEXT`
per split."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from pipeline.core import tables
from pipeline.core.errors import refuse

KIND = "text"


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`read: {}`: the format has no settings."""


def read(raw: Path, config: Config) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Read the rows of each split, with each sentence's paragraph and exact log-probability."""
    files = sorted(raw.glob("*.parquet"))
    if not files:
        raise refuse(
            str(raw), "no *.parquet file", "what the grammar toy_story writes", "Run `dvc repro`."
        )
    for file in files:
        for batch in tables.batches(file, tables.RAW_TEXT):
            yield file.stem, batch


def benchmarks(raw: Path, config: Config) -> Iterator[tuple[str, pa.Table]]:
    """Read the grammar's classes of words."""
    yield "classes", tables.read(raw / "benchmarks" / "classes.parquet", tables.BENCHMARK_CLASSES)
