"""Cost of syncing every output to the disk: time of a corpus's stages with fsync, relative to
without.

    python -m benchmarks.sync_cost [--corpora toy_story,toy_en_fr] [--rounds 5]

Runs download, tokenize, vocab and encode of each corpus of params.yaml in this process, in a
temporary folder in the current one, so on the project's own disk. Rounds alternate between the
two. Prints the number of files, the median time without fsync, and the median of the ratios with
the smallest and the largest. Trainings are left out: they sync few files, minutes apart."""

import argparse
import importlib
import os
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from benchmarks.rounds import median_ms, ratio_summary, time_alternating
from pipeline.core.errors import exit_with

STAGES = {
    "download": ["--out", "raw/{corpus}"],
    "tokenize": [
        "--raw",
        "raw/{corpus}",
        "--out",
        "tokens/{corpus}",
        "--metrics",
        "metrics/{corpus}.json",
    ],
    "vocab": [
        "--tokens",
        "tokens/{corpus}",
        "--words",
        "tokens/{corpus}",
        "--out",
        "vocab/{corpus}",
    ],
    "encode": [
        "--tokens",
        "tokens/{corpus}",
        "--vocab",
        "vocab/{corpus}",
        "--out",
        "encoded/{corpus}",
    ],
}


def seconds(corpora: list[str], params: Path, folder: Path, sync: bool) -> float:
    """Seconds that the stages of the corpora take in `folder`; without `sync`, fsync does
    nothing."""
    fsync = os.fsync
    if not sync:
        os.fsync = lambda descriptor: None
    start = time.perf_counter()
    try:
        for corpus in corpora:
            for stage, options in STAGES.items():
                words = [
                    str(folder / word.format(corpus=corpus)) if "/" in word else word
                    for word in options
                ]
                sys.argv = [stage, corpus, "--params", str(params), *words]
                importlib.import_module(f"stages.{stage}").main()
    finally:
        os.fsync = fsync
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpora", default="toy_story,toy_en_fr,toy_reviews")
    parser.add_argument("--rounds", type=int, default=5)
    a = parser.parse_args()
    corpora = a.corpora.split(",")
    params = Path("params.yaml").resolve()

    with tempfile.TemporaryDirectory(dir=".", prefix=".sync_cost_") as folder:
        run = partial(seconds, corpora, params, Path(folder).resolve())
        bare, synced = time_alternating(
            {"bare": partial(run, False), "synced": partial(run, True)}, a.rounds
        ).values()
        files = sum(1 for path in Path(folder).rglob("*") if path.is_file())
    print(
        f"{files} files: without fsync {median_ms(bare):.0f} ms, with it "
        f"{ratio_summary(synced, bare)} of that"
    )


if __name__ == "__main__":
    exit_with(main)
