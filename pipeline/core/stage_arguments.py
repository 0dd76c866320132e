"""Command lines of stages, in which a shell never sees a name out of params.yaml.

`dvc.yaml` writes one constant command per kind of stage, such as `--out data/raw/{corpus}`. DVC
hands a command to a shell, so a block called `x; rm -rf ~` would run if its name were interpolated
there. The stage takes its block's name from DVC_STAGE, which DVC sets to `download@<name>`, checks
it, and fills the placeholders of its own arguments:

    stages of `corpora:`   {corpus}, {vocabulary} (`vocab.corpus`)
    stages of `runs:`      {run}, {corpus}, {init_from}
"""

import argparse
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pipeline.core import config, params
from pipeline.core.errors import refuse

Section = Literal["corpora", "runs"]

_POSITIONAL: dict[Section, str] = {"corpora": "corpus", "runs": "run"}
# by placeholder: the block's keys that hold another block's name
_NAMED: dict[Section, dict[str, tuple[str, ...]]] = {
    "corpora": {"vocabulary": ("vocab", "corpus")},
    "runs": {"corpus": ("corpus",), "init_from": ("init_from",)},
}
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
# `train@lstm`; `../dvc.yaml:train@lstm` from another folder
_STAGE = re.compile(r"(?:.*:)?[^@:]*@(.*)", re.DOTALL)


def parse(
    parser: argparse.ArgumentParser, section: Section, *, required: bool = True
) -> argparse.Namespace:
    """Parse a stage's command line; its block under `section` is a positional argument, or the one
    of DVC_STAGE.

    `required` is false for a stage that needs the name for its placeholders alone. UserError for a
    name that `check_name` refuses, in the block's own name as well as in what the block names."""
    positional = _POSITIONAL[section]
    parser.add_argument(
        positional, nargs="?", help=f"a block under `{section}:`; within DVC the stage's own"
    )
    arguments = parser.parse_args()

    name = getattr(arguments, positional) or _dvc_block()
    options = {key: value for key, value in vars(arguments).items() if isinstance(value, Path)}
    templates = {key: path for key, path in options.items() if _PLACEHOLDER.search(str(path))}
    if name is None:
        if required or templates:
            parser.error(f"the following arguments are required: {positional}")
        return arguments

    params.check_name(section, name)
    setattr(arguments, positional, name)
    if templates:
        names = placeholders(section, name, config.section(arguments.params, f"{section}.{name}"))
        for key, path in templates.items():
            setattr(arguments, key, Path(fill(str(path), names)))
    return arguments


def placeholders(section: Section, name: str, block: Any) -> dict[str, str]:
    """Value of each placeholder for the block `name` of params.yaml; UserError for a value that is
    no block's name."""
    where = f"{section}.{name}"
    named = _NAMED[section]

    params.check_name(section, name)
    values = {_POSITIONAL[section]: name}
    for placeholder, keys in named.items():
        value = block
        for key in keys:
            value = value.get(key, "nothing") if isinstance(value, Mapping) else "nothing"
        params.check_name(".".join([where, *keys]), value)
        values[placeholder] = value
    return values


def fill(template: str, names: Mapping[str, str]) -> str:
    """The template with each `{placeholder}` replaced; UserError for a placeholder that the stage
    does not have."""

    def replacement(match: re.Match[str]) -> str:
        if match[1] not in names:
            raise refuse(
                "dvc.yaml", match[0], "one of " + ", ".join(f"{{{name}}}" for name in names)
            )
        return names[match[1]]

    return _PLACEHOLDER.sub(replacement, template)


def _dvc_block() -> str | None:
    """Name of the block that DVC runs a stage for; None outside of DVC and for a stage without
    blocks."""
    match = _STAGE.fullmatch(os.environ.get("DVC_STAGE", ""))
    return match[1] if match else None
