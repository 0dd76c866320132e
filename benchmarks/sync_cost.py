"""Cost of having the disk hold every output: the stages of a corpus with fsync, over the same stages without it.

    python -m benchmarks.sync_cost [--corpora toy_story,toy_en_fr] [--rounds 5]

Runs download, tokenize, vocab and encode of each built-in corpus in this process, in a temporary folder beside the project,
so on the project's own disk. Rounds alternate between the two; the median of the ratios is printed with their ends, and how
many files there are. Trainings are left out: they sync a few files in minutes.
"""

import argparse
import importlib
import os
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from benchmarks.rounds import in_turns, milliseconds, over

STAGES = {
    "download": ["--out", "raw/{corpus}"],
    "tokenize": ["--raw", "raw/{corpus}", "--out", "tokens/{corpus}", "--metrics", "metrics/{corpus}.json"],
    "vocab": ["--tokens", "tokens/{corpus}", "--words", "tokens/{corpus}", "--out", "vocab/{corpus}"],
    "encode": ["--tokens", "tokens/{corpus}", "--vocab", "vocab/{corpus}", "--out", "encoded/{corpus}"],
}


def seconds(corpora: list[str], params: Path, folder: Path, sync: bool) -> float:
    """Seconds that the stages of the corpora take in `folder`; without `sync` the disk is not waited for."""
    fsync = os.fsync
    began = time.perf_counter()
    try:
        if not sync:
            os.fsync = lambda descriptor: None
        for corpus in corpora:
            for stage, options in STAGES.items():
                words = [str(folder / word.format(corpus=corpus)) if "/" in word else word for word in options]
                sys.argv = [stage, corpus, "--params", str(params), *words]
                importlib.import_module(f"stages.{stage}").main()
    finally:
        os.fsync = fsync
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", default="toy_story,toy_en_fr,toy_reviews")
    parser.add_argument("--rounds", type=int, default=5)
    a = parser.parse_args()
    corpora, params = a.corpora.split(","), Path("params.yaml").resolve()

    with tempfile.TemporaryDirectory(dir=".", prefix=".sync_cost_") as folder:
        run = partial(seconds, corpora, params, Path(folder).resolve())
        bare, synced = in_turns({"bare": partial(run, False), "synced": partial(run, True)}, a.rounds).values()
        files = sum(1 for path in Path(folder).rglob("*") if path.is_file())
    print(f"{files} files: without fsync {milliseconds(bare):.0f} ms, with it {over(synced, bare)} of that")


if __name__ == "__main__":
    main()
