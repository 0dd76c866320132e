"""`seqline doctor`: check the installation, the devices and the services."""

import argparse
import sys
from pathlib import Path

from pipeline.cli.arguments import print_escaped

HELP = "check the installation, devices, data and services; what to do"


def add(parser: argparse.ArgumentParser) -> None:
    """Add no arguments."""


def run(root: Path, arguments: argparse.Namespace) -> None:
    """Print one line per check; exit with 1 if one of them failed."""
    from pipeline.cli import health_checks

    findings = health_checks.run_checks(root)
    print_escaped("\n".join(f"{item.state:5} {item.subject}: {item.detail}" for item in findings))
    sys.exit(1 if any(item.state == "FAIL" for item in findings) else 0)
