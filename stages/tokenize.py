"""A corpus's raw files to tokens: `python -m stages.tokenize CORPUS --params P --raw R --out O --metrics M`.

Writes `<split>.parquet`, `rejects.parquet` (rows that cannot be used, with the reason), a copy of the raw folder's
`limits.json` if it has one, and the metrics: rows, tokens, characters, rejects by reason, duplicates, overlap with train.
Memory does not grow with the corpus, save for 8 bytes per row and side to count duplicates and overlap.
"""

import argparse
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline import config, params, tables
from pipeline.corpora import BLANK
from pipeline.errors import exit_with, refuse
from pipeline.landing import landing, landing_file
from pipeline.text.splits import Digests, Keys, by_hash, contiguous, digests
from pipeline.text.tokens import Text, normalise, split

Batches = Iterator[tuple[str, pa.RecordBatch]]
_SIDES = {"text": ("text",), "pair": ("source", "target")}
_ROW_GROUP_BYTES = 8 << 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", help="a block under corpora: in the params file")
    parser.add_argument("--params", type=Path, required=True)
    parser.add_argument("--raw", type=Path, required=True, help="the folder that the download stage wrote")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--metrics", type=Path, required=True)
    args = parser.parse_args()
    block, where = params.corpus(args.params, args.corpus), f"corpora.{args.corpus}"
    with landing(args.out) as out, landing_file(args.metrics) as metrics:
        found = Tokenize(block, where, args.raw).run(out)
        if (args.raw / "limits.json").exists():
            shutil.copyfile(args.raw / "limits.json", out / "limits.json")
        metrics.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")


class Tokenize:
    """One corpus on its way from raw files to tables."""

    def __init__(self, block: params.Corpus, where: str, raw: Path) -> None:
        self.format = config.named_module("pipeline.corpora", block.format, f"{where}.format")
        self.reading = config.load(self.format.Config, block.read, f"{where}.read")
        self.text: Text = config.load(Text, block.text, f"{where}.text")
        self.split = params.split(block, where)
        self.limit, self.where, self.raw = block.limit, where, raw
        self.sides = _SIDES[self.format.KIND]
        self.blank_lines = 0
        self.splits: dict[str, Split] = {}

    def run(self, out: Path) -> dict[str, Any]:
        """Fill the folder `out`; the metrics."""
        with ExitStack() as stack:
            rejects = stack.enter_context(tables.writer(out / "rejects.parquet", tables.REJECTS))
            for names, batch in self.assigned():
                ...
        return {}
