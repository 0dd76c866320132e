"""`seqline claims`: check every figure of README and docs against what the project computes."""

import argparse
from pathlib import Path

HELP = "check the figures of README and docs against reports/summary.json, and list stale ones"


def add(parser: argparse.ArgumentParser) -> None:
    """Add no arguments."""


def run(root: Path, arguments: argparse.Namespace) -> None:
    """Print the stale figures; UserError with the wrong ones."""
    from pipeline import claims
    from pipeline.core.errors import UserError

    ledger = claims.load(root)
    findings = list(claims.findings(root, ledger))
    for finding in findings:
        if finding.is_stale:
            print(f"stale: {finding.claim.file}: {finding.claim.text}: {finding.problem}")

    wrong = [finding.problem for finding in findings if not finding.is_stale]
    if wrong:
        raise UserError(f"claims.yaml: {len(wrong)} claims are wrong. " + "; ".join(wrong) + ".")
    count = sum(len(claims.figures(claim)) for claim in ledger)
    stale = sum(finding.is_stale for finding in findings)
    print(f"{len(ledger)} claims with {count} figures: {stale} stale, all others hold")
