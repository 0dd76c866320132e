"""Checks of what users pass: the project's folder, names of runs, and lists of texts."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from pipeline.core.errors import refuse
from pipeline.core.request_text import checked_text
from pipeline.dag import project

Root: TypeAlias = str | os.PathLike[str] | None
"""A project's folder; None for the project of the working directory."""


class Column(Protocol):
    """A pandas Series or a NumPy array."""

    def tolist(self) -> Any:
        """The items as a list."""


Texts: TypeAlias = list[str] | tuple[str, ...] | Column
"""Several texts. It is no Sequence[str], as one text would be such a sequence of letters."""


def project_root(root: Root) -> Path:
    """The absolute path of a project's folder; UserError if `root` is none, or none is found."""
    folder: Path | None
    if root is not None:
        folder = Path(root).expanduser().absolute()
        if project.is_project(folder):
            return folder
        raise refuse("root", str(root), "a folder with dvc.yaml and presets/", "Name a project.")

    # A notebook may run anywhere: an editable installation lies in a project.
    folder = project.containing(Path.cwd()) or project.containing(Path(__file__).resolve().parent)
    if folder is None:
        raise refuse(
            "root",
            f"nothing, in {Path.cwd()}",
            "a folder inside a project",
            "Give root=, the folder with dvc.yaml and presets/.",
        )
    return folder


def check_texts(texts: Any, where: str) -> list[str]:
    """The texts as a list; TypeError for one text, UserError for an item that is no text."""
    return [checked_text(text, f"{where}[{i}]") for i, text in enumerate(items(texts, where))]


def items(values: Any, where: str) -> list[Any]:
    """The items of a list, tuple, Series or array; TypeError for one text, or for anything else
    that is not a sequence."""
    if isinstance(values, str | bytes | os.PathLike):
        shown = repr(values) if len(repr(values)) <= 40 else repr(values)[:40] + "..."
        raise TypeError(f"{where}: got one text, {shown}; expected a list. Write [{shown}].")
    if not isinstance(values, Iterable) or isinstance(values, dict):
        kind = type(values).__name__
        raise TypeError(f"{where}: got {kind}; expected a list of texts.")
    return list(values)
