"""`seqline keep`: leave only some corpora in params.yaml."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.cli.arguments import print_escaped

HELP = "keep only some corpora in params.yaml, with their runs and settings"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments to the subcommand's parser."""
    parser.add_argument("corpora", nargs="+", metavar="CORPUS")
    parser.add_argument(
        "--force", action="store_true", help="even if a block is removed that is in no commit"
    )


def run(root: Path, arguments: argparse.Namespace) -> None:
    """Remove the other blocks, and the outputs of their stages."""
    from pipeline.cli import presets, prune

    saved = presets.is_saved(root)
    removed = keep(root, arguments.corpora, arguments.force)
    for section, names in removed.items():
        if names:
            print_escaped(f"removed from {section}: {', '.join(names)}")
    print("params.yaml has the rest.")
    if presets.default(root) is not None:
        command = (
            "`seqline use default --force`" if saved else "Commit it; then `seqline use default`"
        )
        print(f"{command} brings the default blocks back.")
    prune.print_removed_outputs(root, prune.remove_outputs(root))


def keep(root: Path, corpora: Sequence[str], force: bool) -> dict[str, list[str]]:
    """Remove all blocks that no run on these corpora needs; return their names by section.

    A run needs its setting, its corpus, the corpus of that one's vocabulary, and the run that it
    begins from. UserError for an unknown corpus, for corpora without a run, and for a block that
    would be lost."""
    from pipeline.cli import params_lines, presets, validate_params
    from pipeline.core import config
    from pipeline.core.atomic import atomic_file
    from pipeline.core.errors import refuse

    path = root / "params.yaml"
    validate_params.check(path)
    content = config.read(path)
    for name in corpora:
        choices = list(content["corpora"])
        if name not in choices:
            expected = "one of " + ", ".join(choices)
            raise refuse("CORPUS", name, expected, config.nearest(name, choices))
    needed = _needed(content, corpora)
    if not needed["runs"]:
        names = ", ".join(corpora)
        raise refuse("CORPUS", f"{names} without a run", "a run", "Add one: `seqline add run`.")

    removed = {
        section: [name for name in content[section] if name not in needed[section]]
        for section in config.BLOCKS
    }
    if not force:
        _refuse_losses(root, content, removed)

    paths = [(section, name) for section, names in removed.items() for name in names]
    with atomic_file(path) as partial:
        text = params_lines.without(path.read_text(encoding="utf-8"), paths)
        text = presets.with_other_title(text)
        partial.write_text(text, encoding="utf-8")
        validate_params.check(partial)
    return removed


def _needed(content: Mapping[str, Any], corpora: Sequence[str]) -> dict[str, set[str]]:
    """The names of the blocks that the runs on these corpora need, by section."""
    from pipeline.core.params import SCRATCH

    runs = content["runs"]
    names = [name for name, block in runs.items() if block["corpus"] in corpora]
    for name in names:  # grows
        first = runs[name]["init_from"]
        if first != SCRATCH and first not in names:
            names.append(first)
    corpora_read = {runs[name]["corpus"] for name in names}
    vocabularies = [content["corpora"][name].get("vocab") or {} for name in corpora_read]
    return {
        "runs": set(names),
        "settings": {runs[name]["setting"] for name in names},
        "corpora": corpora_read | {block["corpus"] for block in vocabularies},
    }


def _refuse_losses(
    root: Path, content: Mapping[str, Any], removed: Mapping[str, Sequence[str]]
) -> None:
    """UserError for a removed block that neither the last commit nor a preset has."""
    from pipeline.cli import presets
    from pipeline.core import git, yaml_reader
    from pipeline.core.errors import refuse

    committed = git.output(root, "show", "HEAD:./params.yaml")
    texts = [*presets.contents(root).values(), *([committed] if committed else [])]
    saved = [yaml_reader.value(text.decode("utf-8", "replace"), "a preset") for text in texts]
    for section, names in removed.items():
        for name in names:
            if not any(each.get(section, {}).get(name) == content[section][name] for each in saved):
                raise refuse(
                    f"{section}.{name}",
                    "a block that is in no commit and no preset",
                    "nothing that would be lost",
                    "Commit params.yaml, or add --force.",
                )
