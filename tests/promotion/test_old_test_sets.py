"""Test sets that older versions of the project wrote."""

from pathlib import Path

import pyarrow as pa

from pipeline.core import tables
from pipeline.promotion import retokenize
from pipeline.text.encode import Description

WORDS = Description(
    level="word",
    lowercase=False,
    letters_only=False,
    share=True,
    sides=("text",),
    sizes={"text": 8},
)


def test_benchmarks_of_an_older_test_set_are_read_under_their_new_name(tmp_path: Path) -> None:
    row = {
        "row": 0,
        "text": "the cat",
        "tokens": ["the", "cat"],
        "characters": 7,
        "paragraph": 0,
        "log_prob": None,
    }
    tokens, out = tmp_path / "tokens", tmp_path / "out"
    (tokens / "judges").mkdir(parents=True)
    tables.write(tokens / "test.parquet", pa.Table.from_pylist([row], tables.TOKENS_TEXT))
    classes = pa.Table.from_pylist([{"token": "cat", "class": "noun"}], tables.BENCHMARK_CLASSES)
    tables.write(tokens / "judges/0_classes.parquet", classes)

    retokenize.retokenize(tokens, WORDS, out)
    read = tables.read(out / "benchmarks/0_classes.parquet", tables.BENCHMARK_CLASSES)
    assert read.equals(classes)
    assert not (out / "judges").exists()
    assert tokens / "judges/0_classes.parquet" in retokenize.test_set_files(tokens)
