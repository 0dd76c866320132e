"""Files of a download in the work folder: the bytes so far, and the server's description."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.core.atomic import write_file
from pipeline.core.errors import name_file_in_errors


@dataclass(frozen=True, slots=True)
class Note:
    """Server's description of a file: the ETag and date of its version, and its total size."""

    tag: str | None
    modified: str | None
    total: int | None

    @property
    def validator(self) -> str | None:
        """Value for If-Range: a strong ETag (weak ones are not allowed there), else the date."""
        return self.tag if self.tag and self.tag.startswith('"') else self.modified

    def conditions(self) -> dict[str, str]:
        """Headers of a conditional request for another version; none if the version is unknown."""
        conditions = {"If-None-Match": self.tag, "If-Modified-Since": self.modified}
        return {header: value for header, value in conditions.items() if value}


def part(target: Path) -> Path:
    """Path of the bytes so far of the file `target`."""
    return target.with_suffix(".part")


def part_note(target: Path) -> Path:
    """Path of the note about the bytes so far."""
    return target.with_suffix(".json")


def complete_note(target: Path) -> Path:
    """Path of the note about the complete file."""
    return target.with_suffix(".seen")


def size(path: Path) -> int:
    """Size of a file in bytes, 0 if it does not exist."""
    return path.stat().st_size if path.exists() else 0


def drop(target: Path) -> None:
    """Delete the file, its part and their notes."""
    drop_part(target)
    for path in (target, complete_note(target)):
        path.unlink(missing_ok=True)


def drop_part(target: Path) -> None:
    """Delete the bytes so far and their note."""
    for path in (part(target), part_note(target)):
        path.unlink(missing_ok=True)


def read_note(path: Path) -> Note:
    """Load a note; an empty one if there is none, or it is damaged."""
    try:
        content = json.loads(path.read_text())
        loaded = Note(content["tag"], content["modified"], content["total"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return Note(None, None, None)
    valid = all(isinstance(value, str | None) for value in (loaded.tag, loaded.modified))
    return loaded if valid and isinstance(loaded.total, int | None) else Note(None, None, None)


def write_note(path: Path, note: Note) -> None:
    """Save a note atomically."""
    with name_file_in_errors(path):
        write_file(path, json.dumps(asdict(note)).encode())
