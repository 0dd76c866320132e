"""Progress of the running flow, in `.seqline/flow/progress.json`, which `seqline status` shows.

The flow replaces the file whenever a stage starts or ends, and removes it at its end. After a kill
the file stays, and counts only while its process holds the project's lock."""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.core import locks, process_identity, state_dir
from pipeline.core.atomic import write_file

if TYPE_CHECKING:  # `seqline` alone reads the file, and needs no display
    from pipeline.dag.run_stage import Result
    from pipeline.flow.display import Display

_FILE = state_dir.FLOW / "progress.json"
_SHOWN_STAGES = 4


@dataclass(frozen=True, slots=True)
class Progress:
    """Number of stages that were not up to date when the flow began, how many of them have ended,
    and those that run, the longest first."""

    total: int
    ended: int
    running: Sequence[str]

    def __str__(self) -> str:
        text = f"{self.ended} of {self.total} stages"
        if not self.running:
            return text
        hidden = len(self.running) - _SHOWN_STAGES
        more = f" and {hidden} more" if hidden > 0 else ""
        return f"{text}, now {', '.join(self.running[:_SHOWN_STAGES])}{more}"


class RecordedDisplay:
    """A display that also keeps the file up to date; the flow's thread calls it."""

    def __init__(self, root: Path, display: "Display", total: int) -> None:
        self._path = root / _FILE
        self._display = display
        self._total = total
        self._ended = 0
        self._running: dict[str, None] = {}
        self._write()

    def stage_started(self, address: str) -> None:
        """Record and show that a stage has started."""
        self._running[address] = None
        self._write()
        self._display.stage_started(address)

    def stage_ended(self, address: str, result: "Result") -> None:
        """Record and show that a stage has ended."""
        self._running.pop(address, None)
        self._ended += 1
        self._write()
        self._display.stage_ended(address, result)

    def waited(self) -> None:
        """Tell the display that no stage has ended for a moment."""
        self._display.waited()

    def close(self) -> None:
        """Remove the file, and close the display."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
        self._display.close()

    def _write(self) -> None:
        progress = asdict(Progress(self._total, self._ended, list(self._running)))
        content = {"process": str(process_identity.current_process()), **progress}
        # A full disk must not end the run, and a power cut may damage the file: `read` skips it.
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_file(self._path, json.dumps(content).encode(), sync=False)


def read(root: Path) -> Progress | None:
    """Return the progress of the running flow; None if none runs, or before its first stage."""
    owner = locks.owner(root / state_dir.FLOW_LOCK)
    if owner is None:
        return None
    try:
        content = json.loads((root / _FILE).read_text(encoding="utf-8"))
        process = content.pop("process")
        return Progress(**content) if process == str(owner) else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
