"""`seqline completion`: completion of commands, options and names in a shell, by shtab."""

import argparse
from pathlib import Path

HELP = "print the completion script of a shell: bash, zsh or fish"
_SHELLS = ("bash", "zsh", "fish")
_KINDS = ("runs", "stages", "presets", "models")
# What an argument names, by its destination.
_NAMES = {
    "first": "runs",
    "second": "runs",
    "run": "runs",
    "runs": "runs",
    "what": "runs",
    "targets": "stages",
    "preset": "presets",
    "model": "models",
}


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments to the subcommand's parser."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("shell", nargs="?", choices=_SHELLS, metavar="SHELL", help=", ".join(_SHELLS))
    what.add_argument(
        "--names",
        choices=_KINDS,
        metavar="KIND",
        help=f"print the project's names of a kind, for the scripts: {', '.join(_KINDS)}",
    )


def run(root: Path, arguments: argparse.Namespace) -> None:
    """Print the script, or the names, one a line."""
    if arguments.names is not None:
        print("\n".join(_project_names(root, arguments.names)))
        return

    import shtab

    from pipeline.cli import make_parser

    parser = make_parser()
    _mark(parser)
    print(shtab.complete(parser, arguments.shell))


def _mark(parser: argparse.ArgumentParser) -> None:
    """Tell shtab which arguments of the parser, and of its subcommands, are names or files."""
    import shtab

    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for subparser in action.choices.values():
                _mark(subparser)
        elif action.dest in _NAMES:
            command = f"seqline completion --names {_NAMES[action.dest]} 2>/dev/null"
            action.complete = shtab.cmd(command)  # type: ignore[attr-defined]
        elif action.type is Path:
            action.complete = shtab.FILE  # type: ignore[attr-defined]


def _project_names(root: Path, kind: str) -> list[str]:
    from pipeline.cli import presets
    from pipeline.core import config
    from pipeline.dag import paths
    from pipeline.tracking.versions import model_name

    if kind == "presets":
        return [presets.DEFAULT, *sorted(file.stem for file in (root / "presets").glob("*.yaml"))]
    if kind == "stages":
        stages = sorted(paths.stage_names(root))
        return [*dict.fromkeys(stage.partition("@")[0] for stage in stages), *stages]
    runs = config.section(root / "params.yaml", "runs")
    if kind == "models":
        return sorted({model_name(run["task"], run["corpus"]) for run in runs.values()})
    return [*dict.fromkeys(str(run["setting"]) for run in runs.values()), *runs]
