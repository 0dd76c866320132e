"""`seqline add`: begin a model of your own, or add a corpus or a run to params.yaml."""

import argparse
from pathlib import Path

from pipeline.cli.arguments import Parser, print_escaped, whole_number

HELP = "add a corpus or a model of your own, or a run of a family on a corpus"
_MOST_SEEDS = 100


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments to the subcommand's parser."""
    parsers = parser.add_subparsers(
        title="what", required=True, metavar="WHAT", dest="what", parser_class=Parser
    )
    about = "inspect a file, zip or folder, and write its block under `corpora:`"
    corpus = parsers.add_parser("corpus", help=about, description=about)
    corpus.add_argument("file", metavar="FILE")
    corpus.add_argument("--name", help="name of the block (default: that of the file)")
    for part, what in (
        ("source", "the text to translate"),
        ("target", "its translation"),
        ("text", "the text"),
        ("premise", "the first text of a labelled pair"),
        ("hypothesis", "the second text of a labelled pair"),
        ("label", "the label"),
    ):
        help_text = f"column with {what}: its name, or its number from 0 without a heading"
        corpus.add_argument(f"--{part}", metavar="COLUMN", help=help_text)
    corpus.add_argument(
        "--keep-case",
        action="store_true",
        help="keep capital letters (default: texts are read in lower case)",
    )

    about = "write a setting of a family and its runs, with sizes suited to the corpus"
    run = parsers.add_parser("run", help=about, description=about)
    run.add_argument("family", metavar="FAMILY", help="a file of pipeline/models/")
    run.add_argument("corpus", metavar="CORPUS", help="a block under `corpora:`")
    run.add_argument("--setting", metavar="NAME", help="name (default: CORPUS_FAMILY)")
    run.add_argument(
        "--seeds", type=whole_number(1, _MOST_SEEDS), default=3, metavar="N", help="default: 3"
    )
    run.add_argument(
        "--model",
        metavar="YAML",
        help="the `model:` block, '{hidden: 32, layers: 1}' (default: sizes for the corpus)",
    )

    about = "begin a family: write pipeline/models/FAMILY.py, a model that works, to be changed"
    model = parsers.add_parser("model", help=about, description=about)
    model.add_argument("family", metavar="FAMILY", help="name of the new family")
    begin = model.add_mutually_exclusive_group()
    begin.add_argument(
        "--task",
        help="copy a short family of this task (default: a commented template, a language model)",
    )
    begin.add_argument("--like", metavar="FAMILY", help="copy this file of pipeline/models/")


def run(root: Path, arguments: argparse.Namespace) -> None:
    """Write the block, and print it with what was found."""
    {"corpus": _corpus, "run": _run, "model": _model}[arguments.what](root, arguments)


def _corpus(root: Path, arguments: argparse.Namespace) -> None:
    from pipeline.cli import add_corpus

    parts = ("source", "target", "text", "premise", "hypothesis", "label")
    columns = {part: value for part in parts if (value := getattr(arguments, part)) is not None}
    added = add_corpus.add(root, arguments.file, arguments.name, columns, arguments.keep_case)
    print_escaped("\n".join(added.remarks))
    print_escaped(f"wrote corpora.{added.name} to params.yaml:\n\n{added.text}\n")
    families = ", ".join(added.families)
    print_escaped(f"next: seqline add run FAMILY {added.name}\nFAMILY is one of {families}")


def _run(root: Path, arguments: argparse.Namespace) -> None:
    from pipeline.cli import add_run
    from pipeline.conformance import cases

    added = add_run.add(
        root,
        arguments.family,
        arguments.corpus,
        arguments.setting,
        arguments.seeds,
        None if arguments.model is None else cases.parse_block(arguments.model),
    )
    print_escaped("\n".join(added.remarks))
    first, last = added.runs[0], added.runs[-1]
    runs = first if first == last else f"{first} to {last}"
    print_escaped(f"wrote settings.{added.setting} and runs.{runs} to params.yaml:\n\n{added.text}")
    targets = " ".join(f"evaluate@{run}" for run in added.runs)
    print_escaped(
        f"\nnext: seqline run {targets}\nor, with all other runs and the report: seqline run"
    )


def _model(root: Path, arguments: argparse.Namespace) -> None:
    from pipeline.cli import add_model

    added = add_model.add(root, arguments.family, arguments.task, arguments.like)
    print_escaped(
        f"wrote {added.file}, a copy of {added.like}, a model for the task {added.task}\n"
        f"next: edit {added.file}, or leave it as it is for a first try\n"
        f"      seqline check-model {arguments.family}\n"
        f"      {added.run_command}"
    )
