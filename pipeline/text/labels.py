"""Labels of texts and their numbers: the sorted names in the training rows, from 0; there are no
specials."""

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.core import tables
from pipeline.core.errors import read_json, refuse
from pipeline.text import vocab

SIDE = "label"  # key of their number in `vocab.json`


def table(train: Path) -> pa.Table:
    """Labels (`tables.VOCAB`) of the tokenize stage's table `train`; UserError for fewer than
    two."""
    counts: Counter[str] = Counter()
    schema = tables.schema(train, *tables.TOKENS.values())
    for batch in tables.batches(train, schema, columns=["label"]):
        for entry in pc.value_counts(batch["label"]).to_pylist():
            counts[entry["values"]] += entry["counts"]

    names = sorted(counts)
    if len(names) < 2:
        raise refuse(
            str(train),
            f"only the label {names[0]}" if names else "no label",
            "two labels at least",
            "Read more rows: raise or remove the corpus's `limit`.",
        )

    columns = [names, pa.array(range(len(names)), pa.int32()), [counts[name] for name in names]]
    return pa.table(columns, schema=tables.VOCAB)


def load(folder: Path) -> pa.StringArray:
    """Load the names in a vocabulary's folder, in the order of their numbers; UserError if the
    corpus has no labels."""
    sizes = read_json(
        folder / "vocab.json", "what the vocab stage writes", vocab.REPAIR_ADVICE
    ).get("sizes")
    return vocab.load(
        folder / f"{SIDE}.parquet", sizes.get(SIDE) if isinstance(sizes, dict) else None, ()
    )


def encode(labels: pa.StringArray, names: pa.StringArray, where: Path) -> pa.Int32Array:
    """Number of each label; UserError naming `where` for one that no training row has."""
    numbers = pc.index_in(labels, names)
    if numbers.null_count:
        unknown = labels.filter(pc.is_null(numbers))[0].as_py()
        raise refuse(
            str(where),
            f"the label {unknown}",
            "one of " + ", ".join(names.to_pylist()),
            "None of train has it.",
        )
    return numbers


def rows_of_each(label_N: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Number of training rows of each label, C; UserError for a label without rows."""
    rows_C: NDArray[np.int64] = np.bincount(label_N, minlength=classes).astype(np.int64)
    if not rows_C.all():
        raise refuse(
            "corpus",
            f"no training text with the label number {int(rows_C.argmin())}",
            "at least one of every label",
            "Enlarge the corpus, or leave the label out.",
        )
    return rows_C
