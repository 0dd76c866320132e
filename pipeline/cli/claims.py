"""`seqline claims`: check every figure of README and docs against what the project computes."""

import argparse
from pathlib import Path

HELP = "check the figures of README and docs against reports/summary.json, and list stale ones"


def add(parser: argparse.ArgumentParser) -> None:
    """Add no arguments."""


def run(root: Path, arguments: argparse.Namespace) -> None:
    """Print the stale figures; UserError with the wrong ones."""
    from pipeline.cli import ledger
    from pipeline.core.errors import UserError

    claims = ledger.load(root)
    findings = list(ledger.findings(root, claims))
    for finding in findings:
        if finding.is_stale:
            print(f"stale: {finding.claim.file}: {finding.claim.text}: {finding.problem}")

    wrong = [finding.problem for finding in findings if not finding.is_stale]
    if wrong:
        raise UserError(f"claims.yaml: {len(wrong)} claims are wrong. " + "; ".join(wrong) + ".")
    count = sum(len(ledger.figures(claim)) for claim in claims)
    stale = sum(finding.is_stale for finding in findings)
    print(f"{len(claims)} claims with {count} figures: {stale} stale, all others hold")
