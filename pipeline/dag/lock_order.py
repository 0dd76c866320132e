"""Order of stages in `dvc.lock` after a run: new ones are put in the order in which `dvc repro`
writes them.

A run that is killed or that fails leaves its new stages as they ended, so what it began with is
remembered until one ends well and has put them in order."""

import json
from collections.abc import Sequence
from pathlib import Path

from pipeline.core import state_dir
from pipeline.core.atomic import atomic_file


class LockOrder:
    """The stages of `dvc.lock` at the start of the first run of several that did not end well."""

    def __init__(self, root: Path, locked: Sequence[str]) -> None:
        self._path = root / state_dir.DVC_LOCK_ORDER
        try:
            self.before: list[str] = json.loads(self._path.read_text(encoding="utf-8"))
            self.kept = True
        except (OSError, ValueError):
            self.before, self.kept = list(locked), False

    def keep(self) -> None:
        """Remember, before anything is run; `kept` says that an earlier run did so and has not
        dropped it."""
        with atomic_file(self._path) as beside:
            beside.write_text(json.dumps(self.before), encoding="utf-8")

    def drop(self) -> None:
        """All is well."""
        self._path.unlink(missing_ok=True)
