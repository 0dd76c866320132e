"""Trained runs of params.yaml, as arguments of a benchmark."""

import argparse
from pathlib import Path

from pipeline.core import params
from pipeline.core.errors import refuse
from pipeline.dag import paths


def parse(description: str | None, split: str) -> argparse.Namespace:
    """`runs` (two at least), `root` and `split`, which is `split` by default."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument("--root", type=Path, default=Path("."))
    parser.add_argument("--split", default=split)
    arguments = parser.parse_args()
    if len(arguments.runs) < 2:
        raise refuse("RUN", arguments.runs[0], "two runs at least")
    return arguments


def folder(root: Path, name: str, stage: str, option: str) -> Path:
    """The folder that the command of the stage for the run `name` has as its option."""
    run = params.run(root / "params.yaml", name)
    return paths.option_path(root, stage, name, {"corpus": run.corpus}, option)
