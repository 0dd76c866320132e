"""Tokens to ids with the corpus's vocabulary: `python -m stages.encode --tokens T --vocab V --out O`.

Writes one table per split and `encoded.json`: rows, tokens and unknown tokens of each split and side.
"""

import argparse
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pipeline import tables
from pipeline.errors import exit_with
from pipeline.landing import landing
from pipeline.text import labels
from pipeline.text.encode import Codec, describe
from pipeline.text.specials import UNK

_ENCODED = {"text": tables.ENCODED_TEXT, "pair": tables.ENCODED_PAIR, "labelled": tables.ENCODED_LABELLED}
_COLUMNS = {"text": "tokens", "source": "source_tokens", "target": "target_tokens"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=Path, required=True, help="the folder that the tokenize stage wrote")
    parser.add_argument("--vocab", type=Path, required=True, help="the folder that the vocab stage wrote")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    about = describe(args.vocab)
    codecs = {side: Codec.load(args.vocab, side) for side in about.sides}
    names = labels.load(args.vocab) if labels.SIDE in about.sizes else None
    with landing(args.out) as out:
        found = {}
        for path in sorted(args.tokens.glob("*.parquet")):
            if path.stem != "rejects":
                found[path.stem] = encode(path, codecs, names, out / path.name)
        (out / "encoded.json").write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def encode(tokens: Path, codecs: dict[str, Codec], names: pa.StringArray | None, out: Path) -> dict[str, int]:
    """One split's tokens to ids, batch by batch, and its labels, if there are `names`, to numbers; rows, and tokens and
    unknown tokens of each side."""
    kind = "labelled" if names is not None else "text" if "text" in codecs else "pair"
    before, after = tables.TOKENS[kind], _ENCODED[kind]
    found = {"rows": 0} | {f"{side}_{what}": 0 for side in codecs for what in ("tokens", "unknown")}
    with tables.writer(out, after) as writer:
        for batch in tables.batches(tokens, before):
            columns = [batch["row"]]
            for side, codec in codecs.items():
                ids = codec.encode_tokens(batch[_COLUMNS[side]])
                found[f"{side}_tokens"] += len(ids.flatten())
                found[f"{side}_unknown"] += pc.sum(pc.equal(ids.flatten(), UNK)).as_py() or 0
                columns.append(ids)
            found["rows"] += len(batch)
            if kind == "text":
                columns.append(batch["paragraph"])
            if names is not None:
                columns.append(labels.encode(batch["label"], names, tokens))
            writer.write_batch(pa.record_batch(columns, schema=after))
    return found


if __name__ == "__main__":
    exit_with(main)
