"""The `seqline` command: one module per subcommand, thin over the library and `dvc.yaml`.

A subcommand's module has HELP, `add(parser)` for its arguments, and `run(root, arguments)`, which
imports what it needs when it runs.
"""

import argparse
import sys
from pathlib import Path
from typing import Protocol

from pipeline.cli import (
    analogy,
    champions,
    check,
    claims,
    classify,
    compare,
    demo,
    doctor,
    fill,
    generate,
    neighbours,
    promote,
    prune,
    refresh,
    repair,
    retrain,
    rollback,
    run,
    runs,
    schedule,
    serve,
    status,
    sync,
    translate,
    ui,
    use,
)
from pipeline.cli.arguments import Parser, decode, prepare_output
from pipeline.core.errors import exit_with, refuse
from pipeline.core.loopback import bypass_proxies


class Command(Protocol):
    """A module of this package that is a subcommand."""

    HELP: str

    def add(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments to the subcommand's parser."""

    def run(self, root: Path, arguments: argparse.Namespace) -> None:
        """Run the subcommand in the project `root`."""


COMMANDS: dict[str, Command] = {
    # Settings, and the state of the project
    "use": use,
    "check": check,
    "claims": claims,
    "prune": prune,
    "repair": repair,
    "doctor": doctor,
    # The DAG and retraining, by Prefect
    "run": run,
    "retrain": retrain,
    "schedule": schedule,
    "status": status,
    "refresh": refresh,
    # History and champions, in MLflow
    "sync": sync,
    "ui": ui,
    "compare": compare,
    "promote": promote,
    "rollback": rollback,
    "champions": champions,
    "serve": serve,
    # A trained run on the user's own text
    "runs": runs,
    "translate": translate,
    "generate": generate,
    "classify": classify,
    "fill": fill,
    "neighbours": neighbours,
    "analogy": analogy,
    "demo": demo,
}


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
    arguments = _parser().parse_args(decode(sys.argv[1:]))
    COMMANDS[arguments.command].run(_root(Path.cwd()), arguments)


def _root(start: Path) -> Path:
    """The project that `start` lies in."""
    for folder in (start, *start.parents):
        if (folder / "dvc.yaml").exists() and (folder / "presets").is_dir():
            return folder
    raise refuse(
        str(start),
        "a folder outside of a project",
        "one with dvc.yaml and presets/",
        "Change to the project.",
    )


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="seqline", description="Train and compare every classic family of sequence model."
    )
    subparsers = parser.add_subparsers(
        title="commands", required=True, metavar="COMMAND", dest="command"
    )
    for name, command in COMMANDS.items():
        command.add(subparsers.add_parser(name, help=command.HELP, description=command.HELP))
    return parser
