"""Download the files of a corpus into `<out>/`, and write `manifest.json` (name, bytes, sha256,
source)."""

import argparse
import os
from pathlib import Path

from pipeline.core import params, stage_arguments, state_dir
from pipeline.core.atomic import atomic_dir
from pipeline.core.errors import exit_with
from pipeline.core.loopback import bypass_proxies
from pipeline.download import budget
from pipeline.download.source import DownloadSettings, obtain


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--params", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--work", type=Path, default=state_dir.DOWNLOADS, help="where partial downloads are kept"
    )
    parser.add_argument(
        "--mirror",
        default=os.environ.get("SEQLINE_MIRROR", ""),
        help=(
            "a folder or an http address, tried before a file's own addresses (default: the "
            "environment's SEQLINE_MIRROR)"
        ),
    )
    arguments = stage_arguments.parse(parser, "corpora")

    bypass_proxies()  # for loopback addresses: a mirror may be on this machine
    source = params.corpus(arguments.params, arguments.corpus).source
    limits = budget.load(arguments.params.parent)
    surroundings = DownloadSettings(arguments.mirror, arguments.work, budget=limits)
    with atomic_dir(arguments.out) as folder:
        obtain(arguments.corpus, source, folder, surroundings)


if __name__ == "__main__":
    exit_with(main)
