"""`seqline doctor`: check the installation, the devices and the services."""

import argparse
import sys
from pathlib import Path

from pipeline.cli.arguments import add_json, print_escaped, print_json

HELP = "check the installation, devices, data and services; what to do"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments to the subcommand's parser."""
    parser.description = (
        "Check what is installed, the devices, the data and the services, and say what to do about "
        "each problem. Damaged files of DVC are repaired. Exit status 1 if something will not work."
    )
    add_json(parser)


def run(root: Path, arguments: argparse.Namespace) -> None:
    """Print one line per check, as soon as it is known; exit with 1 if one of them failed."""
    from pipeline.cli import health_checks

    findings = []
    for item in health_checks.run_checks(root):
        findings.append(item)
        if not arguments.json:
            print_escaped(f"{item.state:5} {item.subject}: {item.detail}")
            if item.todo:
                print_escaped(f"      To do: {item.todo}")
            sys.stdout.flush()

    failed = sum(item.state == "FAIL" for item in findings)
    warned = sum(item.state == "warn" for item in findings)
    if arguments.json:
        print_json({"healthy": not failed, "findings": [item._asdict() for item in findings]})
    elif failed or warned:
        print(f"{failed} FAIL (will not work), {warned} warn (works, but look at it)")
    else:
        print("everything is in order")
    sys.exit(1 if failed else 0)
