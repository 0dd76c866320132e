"""`seqline tidy`: give params.yaml the form of the last commit again."""

import argparse
from pathlib import Path
from typing import Any

from pipeline.cli.arguments import print_escaped

HELP = "write params.yaml in the form of the last commit, with its present values"


def add(parser: argparse.ArgumentParser) -> None:
    """Add no arguments; say what it is for."""
    parser.description = (
        "`dvc exp run -S` writes params.yaml anew, without comments and with the merged keys in "
        "every block. This takes the committed text, and puts the changed values, new blocks and "
        "removed ones in."
    )


def run(root: Path, arguments: argparse.Namespace) -> None:
    """Write the file, and list what differs from the commit; UserError at the end for values that
    no stage could use."""
    from pipeline.cli import validate_params
    from pipeline.cli.params_values import Change

    changes = tidy(root)
    for key, value in changes.items():
        print_escaped(f"{key}: {value.value if isinstance(value, Change) else value}")
    if not changes:
        print("params.yaml is as in the last commit")
    else:
        print("params.yaml has the form of the last commit, with these keys changed")
    if Change.ADDED in changes.values():
        print("Going back to the last commit would remove the added blocks: commit them first.")
    elif changes:
        print("To go back to the last commit, results included: git restore -SW . && dvc checkout")
    validate_params.check(root / "params.yaml")


def tidy(root: Path) -> dict[str, Any]:
    """Write the committed params.yaml with the present values; return those that differ, by dotted
    key. A block that was added or removed is one key. UserError without a committed file, and if
    the form cannot hold the values."""
    from pipeline.cli import params_values
    from pipeline.core import config, git, yaml_reader
    from pipeline.core.atomic import atomic_file
    from pipeline.core.errors import refuse

    path = root / "params.yaml"
    committed = git.output(root, "show", "HEAD:./params.yaml")
    if committed is None:
        raise refuse("params.yaml", "no committed one", "one in the last commit", "Commit it.")
    text = committed.decode("utf-8")
    before = yaml_reader.value(text, "the committed params.yaml")
    after = config.read(path)

    todo = "Commit params.yaml as it is."
    text = params_values.with_values(text, after, "the committed form", todo)

    with atomic_file(path) as partial:
        partial.write_text(text, encoding="utf-8")
    return {
        ".".join(keys): (
            params_values.Change.ADDED
            if not params_values.holds(before, keys) and params_values.is_block(value)
            else value
        )
        for keys, value in params_values.differences(before, after)
    }
