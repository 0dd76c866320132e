"""`seqline check-model`: try whether a family's models keep the contracts."""

import argparse
import sys
from pathlib import Path

from pipeline.cli.arguments import print_escaped

HELP = "try whether the models of a family keep their contracts: masks, steps, gradients, learning"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments to the subcommand's parser."""
    parser.description = (
        "Build a model of pipeline/models/FAMILY.py, and check it on small data: the methods and "
        "shapes of its task, that padding and later tokens change nothing, that decoding from the "
        "state equals reading everything, saving and loading, gradients, and that it learns a "
        "rule. The `model:` block is that of the family's first run in params.yaml, else in a "
        "preset, else one with values that are guessed from the names and types of its keys. "
        "`dropout` is set to 0. See docs/own_model.md."
    )
    parser.add_argument("family", metavar="FAMILY", help="the name of a file of pipeline/models/")
    parser.add_argument("--setting", help="take the `model:` block of this setting")
    parser.add_argument(
        "--model", metavar="YAML", help="the `model:` block: '{hidden: 32, layers: 1}'"
    )
    parser.add_argument("--task", help="the task, with --model, if several fit")


def run(root: Path, arguments: argparse.Namespace) -> None:
    """Print a line for each check; exit with 1 if one of them failed."""
    from pipeline.cli import user_family
    from pipeline.conformance import cases, examine

    if arguments.model is not None:
        block = cases.parse_block(arguments.model)
        case = cases.of_block(arguments.family, arguments.task, block)
    else:
        case = cases.find(cases.params_files(root), arguments.family, arguments.setting)
    if case.is_guessed:
        print_escaped(
            f"{case.family} has no run in params.yaml or a preset. Its methods are those of "
            f"{case.task}.\nChecking it with --model '{cases.block_text(case.block)}'"
        )

    failures = 0
    skipped = []
    for finding in examine(case):
        failures += finding.state == "FAIL"
        if finding.state == "skip":
            skipped.append(finding.name)
            continue
        print_escaped(f"{finding.state:5} {finding.name}: {finding.detail}")
    if skipped:
        print_escaped(f"skip  {', '.join(skipped)}: not checked, as the fault above ends them all")
    if failures:
        faults = "1 fault" if failures == 1 else f"{failures} faults"
        first = ". Begin with the first: others may follow from it." * (failures > 1)
        file = f"pipeline/models/{arguments.family}.py"
        print_escaped(f"{file}: {faults} as a model of {case.task}{first}")
        sys.exit(1)
    print_escaped(f"{arguments.family} keeps the contracts of {case.task}")
    if case.is_guessed:
        print_escaped(f"next: {user_family.run_command(root, case.family, case.task)}")
