"""The `seqline` command: one module per subcommand, thin over the library and `dvc.yaml`.

A subcommand's module has HELP, `add(parser)` for its arguments, and `run(root, arguments)`, which
imports what it needs when it runs. Its examples are in `examples.py`.
"""

import argparse
import sys
from pathlib import Path
from typing import Protocol

from pipeline.cli import (
    add,
    analogy,
    champions,
    check,
    check_model,
    claims,
    classify,
    compare,
    completion,
    demo,
    doctor,
    fill,
    generate,
    keep,
    neighbours,
    promote,
    prune,
    refresh,
    repair,
    results,
    retrain,
    rollback,
    run,
    runs,
    schedule,
    serve,
    status,
    sync,
    tidy,
    translate,
    ui,
    use,
)
from pipeline.cli.arguments import Parser, decode, prepare_output, print_escaped
from pipeline.cli.examples import epilog
from pipeline.cli.help_page import help_page
from pipeline.cli.version import Version
from pipeline.core.errors import exit_with, refuse
from pipeline.core.loopback import bypass_proxies
from pipeline.dag import project


class Command(Protocol):
    """A module of this package that is a subcommand."""

    HELP: str

    def add(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments to the subcommand's parser."""

    def run(self, root: Path, arguments: argparse.Namespace) -> None:
        """Run the subcommand in the project `root`."""


GROUPS: dict[str, dict[str, Command]] = {
    "settings": {
        "use": use,
        "add": add,
        "keep": keep,
        "tidy": tidy,
        "check": check,
        "check-model": check_model,
    },
    "train and compare": {
        "run": run,
        "results": results,
        "compare": compare,
    },
    "your own text": {
        "runs": runs,
        "translate": translate,
        "generate": generate,
        "classify": classify,
        "fill": fill,
        "neighbours": neighbours,
        "analogy": analogy,
        "demo": demo,
    },
    "history and champions, in MLflow": {
        "ui": ui,
        "sync": sync,
        "champions": champions,
        "promote": promote,
        "rollback": rollback,
        "serve": serve,
    },
    "retraining": {
        "retrain": retrain,
        "schedule": schedule,
        "status": status,
        "refresh": refresh,
    },
    "maintenance": {
        "doctor": doctor,
        "repair": repair,
        "prune": prune,
        "claims": claims,
        "completion": completion,
    },
}
COMMANDS = {name: command for group in GROUPS.values() for name, command in group.items()}
WITHOUT_PROJECT = ("completion",)


def main() -> None:
    """The console script: 0, or one line on stderr and 2 for a user's mistake, or 130 after
    Ctrl-C."""
    prepare_output()
    try:
        exit_with(_command)
    except KeyboardInterrupt:
        sys.exit(130)


def _command() -> None:
    bypass_proxies()
    arguments = make_parser().parse_args(decode(sys.argv[1:]))
    root = project.containing(Path.cwd())
    if arguments.command is None:
        from pipeline.cli.overview import OUTSIDE, overview

        print_escaped(OUTSIDE if root is None else overview(root))
        return
    if root is None and arguments.command not in WITHOUT_PROJECT:
        raise refuse(
            str(Path.cwd()),
            "a folder outside of a project",
            "one with dvc.yaml and presets/",
            "Change to the project.",
        )
    COMMANDS[arguments.command].run(root or Path.cwd(), arguments)


def make_parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser(prog="seqline")
    parser.page = help_page(
        {
            title: {name: command.HELP for name, command in group.items()}
            for title, group in GROUPS.items()
        }
    )
    parser.add_argument("--version", action=Version, help="print the version")
    subparsers = parser.add_subparsers(metavar="COMMAND", dest="command")
    for name, command in COMMANDS.items():
        command.add(
            subparsers.add_parser(
                name, help=command.HELP, description=command.HELP, epilog=epilog(name)
            )
        )
    return parser
