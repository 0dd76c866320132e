"""`seqline use`: write a preset to params.yaml."""

import argparse
from pathlib import Path

from pipeline.cli.arguments import print_escaped

HELP = "write a preset to params.yaml; without a name, list the presets"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments to the subcommand's parser."""
    parser.add_argument("preset", nargs="?", metavar="PRESET")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="changes",
        help="set a dotted key; * stands for any part of it",
    )
    parser.add_argument(
        "--seeds",
        action="append",
        default=[],
        metavar="N",
        help="train every setting with seeds 1 to N; SETTING=N for one setting",
    )
    parser.add_argument(
        "--force", action="store_true", help="even if params.yaml has uncommitted edits"
    )


def run(root: Path, arguments: argparse.Namespace) -> None:
    """Write the preset, or list all, and remove outputs that params.yaml no longer has."""
    from pipeline.cli import presets, prune

    if arguments.preset is None:
        print_escaped(presets.listing(root))
        return
    removed = presets.use(
        root, arguments.preset, arguments.changes, arguments.seeds, arguments.force
    )
    print(f"params.yaml is now the preset {arguments.preset}")
    for change in [*arguments.changes, *(f"seeds: {seeds}" for seeds in arguments.seeds)]:
        print(f"  {change}")
    prune.print_removed_outputs(root, removed)
