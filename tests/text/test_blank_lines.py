"""Blank lines are counted once, however often a corpus is read."""

from collections.abc import Iterator

import pyarrow as pa
import pytest

from pipeline.core import tables
from pipeline.corpora import BLANK
from pipeline.text.rows import UNSPLIT, Rows

RAW = {
    "text": tables.RAW_TEXT,
    "labelled": tables.RAW_LABELLED,
}


def batches(kind: str) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Two batches with three blank lines in all."""
    for texts in (["a", "", "b", ""], ["c", "d", ""]):
        columns = {
            "text": texts,
            "label": ["x"] * len(texts),
            "paragraph": [0] * len(texts),
            "log_prob": [None] * len(texts),
            "reject": [None if text else BLANK for text in texts],
        }
        arrays = [pa.array(columns[field.name], field.type) for field in RAW[kind]]
        yield UNSPLIT, pa.record_batch(arrays, schema=RAW[kind])


@pytest.mark.parametrize("kind", RAW)
@pytest.mark.parametrize("limit", [None, 3])
def test_contiguous_splits_count_blank_lines_once(kind: str, limit: int | None) -> None:
    rows = Rows(lambda: batches(kind), limit)
    # Contiguous splits read the corpus once to count its rows, and again to divide them.
    total = sum(rows.count().values())
    assert sum(len(batch) for _, batch in rows) == total == (limit or 4)
    assert rows.blank_lines == 3
