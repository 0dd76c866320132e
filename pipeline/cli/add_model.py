"""`seqline add model FAMILY`: write `pipeline/models/FAMILY.py`, a copy of the template, of the
short family of a task, or of any other."""

import keyword
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pipeline import models
from pipeline.cli import user_family
from pipeline.conformance import Kind, cases, load_family, template
from pipeline.core import config
from pipeline.core.atomic import atomic_file
from pipeline.core.errors import refuse

_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Added:
    """The new file and the one that it is a copy of, from the project's root; its task; and what
    writes a run of it."""

    file: str
    like: str
    task: str
    run_command: str


def add(root: Path, family: str, task: str | None, like: str | None) -> Added:
    """Write `pipeline/models/FAMILY.py`; UserError for a name that is taken or no name of a module,
    and for an unknown task or family. Then nothing is written."""
    folder = _folder(root)
    _check_name(family, folder)
    module = _example(task, like)
    tasks = cases.tasks_of(module)
    if not tasks:
        raise refuse("--like", f"{like}, a model of no task", "a finished family")
    task = task or tasks[0]
    run_command = user_family.run_command(root, family, task)

    source = Path(module.__file__)
    text = source.read_text(encoding="utf-8")
    if module is not template:
        head = f"# A copy of {source.name}. Describe your model here, and change Config and Model."
        text = f"{head}\n{text}"
    target = folder / f"{family}.py"
    with atomic_file(target) as partial:
        partial.write_text(text, encoding="utf-8")
    like_file = f"{module.__name__.replace('.', '/')}.py"
    return Added(f"pipeline/models/{target.name}", like_file, task, run_command)


def _folder(root: Path) -> Path:
    """The folder of the families; UserError if Python does not import them from this project."""
    folder = Path(models.__path__[0]).resolve()
    if folder != root.resolve() / "pipeline/models":
        expected = f"that of {root}"
        todo = "Activate the environment of this project: source .venv/bin/activate."
        raise refuse("seqline", f"the code of {folder.parents[1]}", expected, todo)
    return folder


def _check_name(family: str, folder: Path) -> None:
    """UserError for a name that is taken, or that could not be a family's."""
    if not _NAME.fullmatch(family) or keyword.iskeyword(family):
        word = re.sub("[^a-z0-9]+", "_", Path(family).name.removesuffix(".py").lower())
        word = word.strip("_0123456789")
        todo = f"For example {word}." if word and not keyword.iskeyword(word) else ""
        expected = "a name of small letters, digits and _, which is no word of Python"
        raise refuse("FAMILY", family, expected, todo)
    file = folder / f"{family}.py"
    if family in config.module_names("pipeline.models") or os.path.lexists(file):
        got = f"{family}, which is pipeline/models/{family}.py"
        raise refuse("FAMILY", got, "a new name", "Edit that file, or give another name.")


def _example(task: str | None, like: str | None) -> Any:
    """The module to copy: the family `like`, else the example of the task, else the template."""
    if like is not None:
        return load_family(like, "--like")
    if task is None:
        return template
    kind = cast(Kind, config.named_module("pipeline.conformance.tasks", task, "--task"))
    package, _, name = kind.EXAMPLE.rpartition(".")
    return config.named_module(package, name, "--task")
