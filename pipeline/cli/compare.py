"""`seqline compare`: test two settings, or decide between two trained runs as the promotion
would."""

import argparse
import json
import sys
from pathlib import Path

from pipeline.cli.arguments import add_json, print_json
from pipeline.core.errors import refuse
from pipeline.runs.names import run_of, setting_names

HELP = "compare two settings, or decide which of two runs is champion"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments to the subcommand's parser."""
    parser.description = (
        "Two settings: test whether their scores differ, over seeds and test sentences, or over "
        "folds if they are cross-validated. Two runs: show whether the second would replace the "
        "first as champion, and why. Nothing is promoted."
    )
    parser.add_argument("first", metavar="NAME", help="a setting; or a run, the one to beat")
    parser.add_argument(
        "second", metavar="NAME", help="another setting or run of the same task and corpus"
    )
    add_json(parser)


def run(root: Path, arguments: argparse.Namespace) -> None:
    """Print the test or the decision."""
    names = (arguments.first, arguments.second)
    settings = [name for name in names if name in setting_names(root)]
    if len(settings) == len(names):
        text = _settings(root, names, arguments.json)
    else:
        champion, challenger = (run_of(root, name, "NAME") for name in names)
        if settings:
            got = f"the setting {settings[0]} and a run"
            raise refuse("NAME", got, "two settings or two runs")
        text = _runs(root, champion, challenger, arguments.json)
    if arguments.json:
        print_json(json.loads(text))
    else:
        from pipeline.cli.terminal import print_markdown

        print_markdown(text.rstrip("\n"))


def _settings(root: Path, names: tuple[str, str], as_json: bool) -> str:
    from pipeline.cli.standings import load_standings
    from pipeline.dag.paths import RunPaths
    from pipeline.report import document, pair

    paths = RunPaths(root)
    metrics, scores = (paths.shared("report", option) for option in ("metrics", "scores"))
    blocks = pair.compare(root / "params.yaml", metrics, scores, names, "NAME")
    if as_json:
        both = [
            each for each in load_standings(root, names) if len(each.ranking.settings) == len(names)
        ]
        return json.dumps([standing.json() for standing in both])
    return document.markdown(blocks, root)


def _runs(root: Path, champion: str, challenger: str, as_json: bool) -> str:
    from pipeline.promotion import trained_runs

    if sys.stderr.isatty():
        print("computing predictions that are missing: seconds for small models", file=sys.stderr)
    decision = trained_runs.compare(root, champion, challenger)
    return decision.json() if as_json else decision.markdown()
