"""`seqline claims`: check the figures of README and docs against what the project computes."""

import argparse
from pathlib import Path

HELP = "check the figures of README and docs against the report"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "--update",
        action="store_true",
        help="first rewrite the figures of the default DAG in README, docs and claims.yaml",
    )
    parser.add_argument(
        "--record",
        nargs="+",
        default=[],
        metavar="HEADING",
        help="first enter the digests of these sections, whose edited numbers you have checked",
    )


def run(root: Path, arguments: argparse.Namespace) -> None:
    """Print the stale figures; UserError with the wrong ones."""
    from pipeline.cli import ledger, ledger_update
    from pipeline.core.errors import UserError

    if arguments.update:
        for change in ledger_update.update(root):
            print(f"updated: {change}")
    if arguments.record:
        ledger_update.record(root, arguments.record)

    claims = ledger.load(root)
    stale = list(ledger.stale(root, claims))
    for finding in stale:
        print(f"stale: {finding.place}: {finding.problem}")

    wrong = [finding.problem for finding in ledger.wrong(root, claims)]
    if wrong:
        raise UserError(f"claims.yaml: {len(wrong)} problems. " + "; ".join(wrong) + ".")
    print(f"{ledger.count(claims)}; {len(stale)} claims are stale, all others hold")
