"""A table of encoded rows as one stream of ids (d2l section 9.3)."""

from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.text.specials import EOS
from pipeline.text.token_budget import Ragged


def stream(table: pa.Table) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Concatenate EOS, then every row followed by EOS: int64."""
    rows = Ragged(table["ids"])
    if not len(rows.length):
        return np.full(1, EOS, dtype=np.int64)

    # `end`: position of the EOS of each row; the ids of the rows fill all other positions
    end = np.cumsum(rows.length + 1)
    ids = np.full(1 + int(end[-1]), EOS, dtype=np.int64)
    is_id = np.ones(len(ids), dtype=bool)
    is_id[0] = False
    is_id[end] = False
    first = int(rows.start[0])
    ids[is_id] = rows.values[first : first + int(rows.length.sum())]
    return ids
