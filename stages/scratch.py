"""Write the folder that a run with `init_from: scratch` begins from: a `config.json` without a
run."""

import argparse
import json
from pathlib import Path

from pipeline.core.atomic import atomic_dir
from pipeline.core.errors import exit_with


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    with atomic_dir(parser.parse_args().out) as folder:
        (folder / "config.json").write_text(json.dumps({"run": None}) + "\n", encoding="utf-8")


if __name__ == "__main__":
    exit_with(main)
