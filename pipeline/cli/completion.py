"""`seqline completion`: completion of commands, options and names in a shell, by shtab."""

import argparse
from pathlib import Path
from typing import Any

HELP = "print the completion script of a shell: bash, zsh or fish"
_SHELLS = ("bash", "zsh", "fish")
_KINDS = (
    "runs",
    "stages",
    "presets",
    "models",
    "families",
    "addable-families",
    "tasks",
    "corpora",
)
# The kind of name of each argument, by its destination; the last words of a command come first.
# None: a new name.
_NAMES: dict[str, str | None] = {
    "first": "runs",
    "second": "runs",
    "run": "runs",
    "runs": "runs",
    "what": "runs",
    "targets": "stages",
    "preset": "presets",
    "model": "models",
    "corpora": "corpora",
    "corpus": "corpora",
    "family": "families",
    "like": "families",
    "add run family": "addable-families",
    "add model family": None,
    "task": "tasks",
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

    from pipeline.cli import COMMANDS, make_parser

    parser = make_parser()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, subparser in action.choices.items():
                subparser.description = COMMANDS[name].HELP  # shells list it beside the name
                _mark(subparser)
    print(shtab.complete(parser, arguments.shell))


def _mark(parser: argparse.ArgumentParser) -> None:
    """Tell shtab which arguments of the parser, and of its subcommands, are names or files."""
    import shtab

    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for subparser in action.choices.values():
                _mark(subparser)
        elif (kind := _kind(parser, action)) is not None:
            action.complete = _names(kind)  # type: ignore[attr-defined]
        elif action.type is Path:
            action.complete = shtab.FILE  # type: ignore[attr-defined]


def _kind(parser: argparse.ArgumentParser, action: argparse.Action) -> str | None:
    """The kind of names that the argument takes, if it takes names."""
    command = parser.prog.partition(" ")[2]
    return _NAMES.get(f"{command} {action.dest}", _NAMES.get(action.dest))


def _names(kind: str) -> dict[str, Any]:
    """Return shtab's completion by names of this kind, which depend on the present folder."""
    import shtab

    command = f"seqline completion --names {kind} 2>/dev/null"
    by_shell: dict[str, Any] = dict(shtab.cmd(command))
    # shtab would run the command once, when zsh loads the script.
    function = f"_seqline_names_{kind.replace('-', '_')}"
    definition = f"{function}() {{ compadd -- $({command}) }}"
    preamble = by_shell["preamble"] | {"zsh": definition}
    return by_shell | {"zsh": function, "preamble": preamble}


def _project_names(root: Path, kind: str) -> list[str]:
    from pipeline.core import config
    from pipeline.dag import paths
    from pipeline.tracking.versions import model_name

    if kind == "presets":
        from pipeline.cli import presets

        return [presets.DEFAULT, *sorted(file.stem for file in (root / "presets").glob("*.yaml"))]
    if kind == "stages":
        stages = sorted(paths.stage_names(root))
        return [*dict.fromkeys(stage.partition("@")[0] for stage in stages), *stages]
    if kind == "families":
        return config.module_names("pipeline.models")
    if kind == "tasks":
        return config.module_names("pipeline.tasks")
    if kind == "addable-families":
        from pipeline.cli import add_run  # imports torch

        return add_run.all_families(root)
    if kind == "corpora":
        return list(config.section(root / "params.yaml", "corpora"))
    runs = config.blocks(root / "params.yaml", "runs")
    if kind == "models":
        return sorted({model_name(run["task"], run["corpus"]) for run in runs.values()})
    return [*dict.fromkeys(str(run["setting"]) for run in runs.values()), *runs]
