"""`python -m pipeline.tracking follow --root ROOT --parent PID < SPOOL`: started by `live` only."""

import argparse
import sys
from pathlib import Path

from pipeline.tracking.follower import follow, lower_priority


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m pipeline.tracking", description=__doc__)
    parser.add_argument("command", choices=["follow"])
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--parent", type=int, required=True)
    arguments = parser.parse_args()

    lower_priority()
    follow(sys.stdin.buffer, arguments.root, arguments.parent)


if __name__ == "__main__":
    main()
