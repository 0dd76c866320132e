"""A file on its way in, in the work folder: the bytes so far, and what the server said of them."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.errors import naming
from pipeline.landing import replace_file


@dataclass(frozen=True, slots=True)
class Note:
    """What the server said of the bytes: an ETag and a date that name this version, and its size in all."""

    tag: str | None
    modified: str | None
    total: int | None

    @property
    def validator(self) -> str | None:
        """What to say in If-Range: a strong ETag (a weak one is not allowed there), else the date."""
        return self.tag if self.tag and self.tag.startswith('"') else self.modified

    def conditions(self) -> dict[str, str]:
        """Headers that ask for the file only if it is another version; none if the server named none."""
        named = {"If-None-Match": self.tag, "If-Modified-Since": self.modified}
        return {header: value for header, value in named.items() if value}


def part(whole: Path) -> Path:
    """The bytes so far of the file that will be `whole`."""
    return whole.with_suffix(".part")


def note(whole: Path) -> Path:
    """What the server said of the bytes so far."""
    return whole.with_suffix(".json")


def seen(whole: Path) -> Path:
    """What the server said of the whole file."""
    return whole.with_suffix(".seen")


def size(path: Path) -> int:
    """Bytes of a file, 0 for none."""
    return path.stat().st_size if path.exists() else 0


def drop(whole: Path) -> None:
    """Delete the file, and all that is known of it."""
    drop_part(whole)
    for path in (whole, seen(whole)):
        path.unlink(missing_ok=True)


def drop_part(whole: Path) -> None:
    """Delete the bytes so far."""
    for path in (part(whole), note(whole)):
        path.unlink(missing_ok=True)


def read_note(path: Path) -> Note:
    """Load a note; an empty one if there is none, or it is damaged."""
    try:
        said = json.loads(path.read_text())
        loaded = Note(said["tag"], said["modified"], said["total"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return Note(None, None, None)
    texts = all(value is None or isinstance(value, str) for value in (loaded.tag, loaded.modified))
    return loaded if texts and isinstance(loaded.total, int | None) else Note(None, None, None)


def write_note(path: Path, note: Note) -> None:
    """Save a note, all or nothing."""
    beside = path.with_suffix(".json.partial")
    with naming(path):
        beside.write_text(json.dumps(asdict(note)))
    replace_file(beside, path)
