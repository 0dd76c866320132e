"""Order of stages in `dvc.lock` after a run: new ones are put in the order in which `dvc repro`
writes them.

A run that is killed or that fails leaves its new stages in the order in which they ended. So the
order before the run is kept in a file until a run succeeds and has sorted the lock."""

import json
from collections.abc import Sequence
from pathlib import Path

from pipeline.core import state_dir
from pipeline.core.atomic import atomic_file


class LockOrder:
    """The stages of `dvc.lock` before the first of several runs that did not succeed.

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
