"""The text of `dvc.lock` as one part for each stage, so that parts can be replaced and reordered.

Parsing and writing the whole file as YAML takes DVC over a second for a hundred stages. Here its
bytes are cut at the stages' lines. A file of another form than DVC's is left to DVC. `LockOrder`
keeps the order of the stages until a run succeeds.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.core import state_dir
from pipeline.core.atomic import atomic_file

_HEAD = "schema: '2.0'\nstages:\n"
# a stage's line: two spaces, a plain name, a colon
_NAME = re.compile(r"  ([^\s#'\"?&*!|>%@`{}\[\],][^\s:]*):\n")
_ANCHOR = re.compile(r"[&*]id\d")


def split_stages(text: str) -> dict[str, str] | None:
    """Return the lines of each stage, by name; None for a file of another form than DVC's."""
    stages = leading_stages(text)
    return stages if join_stages(stages) == text else None


def leading_stages(text: str) -> dict[str, str]:
    """Return the lines of the stages before the first line of another form, by name.

    The last stage may be cut off.
    """
    stages: dict[str, str] = {}
    if not text.startswith(_HEAD):
        return stages

    name = ""
    for line in text[len(_HEAD) :].splitlines(keepends=True):
        if match := _NAME.fullmatch(line):
            name = match[1]
            if name in stages:
                break
            stages[name] = line
        elif line.startswith("   ") and name:
            stages[name] += line
        else:
            break
    return stages


def join_stages(stages: Mapping[str, str]) -> str:
    """Return the lock file; the inverse of `split_stages`."""
    return _HEAD + "".join(stages.values())


def has_anchor(lines: str) -> bool:
    """Return whether the lines may have an anchor or an alias of DVC's, such as `&id001`."""
    return _ANCHOR.search(lines) is not None


def splice_stages(text: str, contents: Mapping[str, Any]) -> str | None:
    """Return the lock file with these stages replaced, or added at its end.

    None if the result might differ from what DVC would write.
    """
    from dvc.utils.serialize import dumps_yaml

    stages = split_stages(text or _HEAD)
    if stages is None:
        return None

    for name, content in contents.items():
        dumped = split_stages(dumps_yaml({"schema": "2.0", "stages": {name: content}}))
        # DVC quotes some names, and numbers anchors through the whole file.
        if dumped is None or list(dumped) != [name] or has_anchor(dumped[name]):
            return None
        stages[name] = dumped[name]
    return join_stages(stages)


class LockOrder:
    """The stages of `dvc.lock` before the first of several runs that did not succeed.

    A run that is killed or that fails leaves its new stages in the order in which they ended. So
    the order before the run is kept in a file until a run succeeds and has sorted the lock as `dvc
    repro` does.

    `before`: the stages, in order; `kept`: an earlier run has saved them."""

    def __init__(self, root: Path, locked: Sequence[str]) -> None:
        self._path = root / state_dir.DVC_LOCK_ORDER
        try:
            self.before: list[str] = json.loads(self._path.read_text(encoding="utf-8"))
            self.kept = True
        except (OSError, ValueError):
            self.before = list(locked)
            self.kept = False

    def keep(self) -> None:
        """Save the order, before anything is run."""
        with atomic_file(self._path) as partial:
            partial.write_text(json.dumps(self.before), encoding="utf-8")

    def drop(self) -> None:
        """Remove the file, after a run that succeeded."""
        self._path.unlink(missing_ok=True)
