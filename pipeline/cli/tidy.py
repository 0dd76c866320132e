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
        "every block. This takes the committed text, and puts the changed values in."
    )


def run(root: Path, arguments: argparse.Namespace) -> None:
    """Write the file, and list the values that differ from the commit."""
    changes = tidy(root)
    for key, value in changes.items():
        print_escaped(f"{key}: {value}")
    what = "these values" if changes else "no value"
    print(f"params.yaml is as in the last commit; {what} changed")
    if changes:
        print("To go back to the last commit, results included: git restore -SW . && dvc checkout")


def tidy(root: Path) -> dict[str, Any]:
    """Write the committed params.yaml with the present values; return those that differ, by dotted
    key. UserError without a committed file, and if keys were added or removed."""
    from pipeline.cli import params_text, validate_params
    from pipeline.core import config, git, yaml_reader
    from pipeline.core.atomic import atomic_file
    from pipeline.core.errors import refuse

    path = root / "params.yaml"
    committed = git.output(root, "show", "HEAD:./params.yaml")
    if committed is None:
        raise refuse("params.yaml", "no committed one", "one in the last commit", "Commit it.")
    text = committed.decode("utf-8")
    before = dict(config.leaves(yaml_reader.value(text, "the committed params.yaml")))
    after = dict(config.leaves(config.read(path)))
    if other := sorted(before.keys() ^ after.keys()):
        raise refuse(
            ".".join(other[0]),
            "a key that was added or removed since the last commit",
            "other values alone",
            "Commit params.yaml as it is.",
        )

    changes = {key: after[key] for key in after if after[key] != before[key]}

    def edit(content: Any) -> None:
        for key, value in changes.items():
            block = content
            for word in key[:-1]:
                block = block[word]
            block[key[-1]] = params_text.in_line(value) if isinstance(value, list) else value

    with atomic_file(path) as partial:
        partial.write_text(params_text.edited(text, edit) if changes else text, encoding="utf-8")
        validate_params.check(partial)
    return {".".join(key): value for key, value in changes.items()}
