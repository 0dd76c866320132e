"""The machine's time zone by its IANA name, which is what Prefect's server takes; UTC, and why, where it has none.

TZ is read as the C library reads it. tzlocal, which reads the system's own settings, passes over a TZ that it cannot name
and then tells the system's zone, which the user has just overridden.
"""

import os
import warnings
from pathlib import Path, PurePath
from typing import NamedTuple
from zoneinfo import ZoneInfo, available_timezones

from pipeline.errors import printable

_LINK = Path("/etc/localtime")
_NO_NAMES = {"localtime", "posixrules", "Factory"}  # files beside the zones; what they hold depends on the machine


class Zone(NamedTuple):
    """An IANA name, and why it is UTC if nothing else could be understood, else ""."""

    name: str
    problem: str


def machine_zone() -> Zone:
    """Name the zone of TZ or, where that is not set, of /etc/localtime."""
    setting = os.environ.get("TZ")
    if setting == "":
        return Zone("UTC", "")  # the C library's meaning of an empty TZ
    if setting is None:
        name, got = _of_system(), "the system's time zone, which has no IANA name"
    else:
        # A colon says that a file or a name follows, and may be left out.
        wanted = setting.removeprefix(":")
        path = Path(wanted)
        name = _of_file(path) if path.is_absolute() else _known(wanted)
        got = f"TZ={printable(setting)}, which is no IANA name"
    if name is not None:
        return Zone(name, "")
    return Zone("UTC", f"{got}; UTC is used. Set TZ to a name such as Europe/Berlin.")


def _known(name: str) -> str | None:
    """The name if there is such a zone, and Prefect's server knows it."""
    if name in _NO_NAMES or name not in available_timezones():
        return None
    try:
        return ZoneInfo(name).key
    except (KeyError, ValueError, OSError):  # listed, and yet its file is damaged or out of reach
        return None


def _of_file(path: Path) -> str | None:
    return _of_system() if path == _LINK else _of_path(path)


def _of_path(path: Path) -> str | None:
    """The zone of a file such as /usr/share/zoneinfo/Europe/Berlin, by the end of its path or of the path it links to."""
    for place in dict.fromkeys((_resolved(path), path)):
        parts = PurePath(place).parts[1:]
        below = next((at + 1 for at, part in enumerate(parts) if part.split(".")[0].startswith("zoneinfo")), None)
        if below is None:
            continue
        # Below zoneinfo/ there may be posix/ or right/, and `uptodate` links; the longest name that is one is meant.
        for start in range(below, len(parts)):
            name = _known("/".join(parts[start:]))
            if name is not None:
                return name
    return None


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError):  # a loop of links, a NUL
        return path


def _of_system() -> str | None:
    """The zone of /etc/localtime: where it links to or, if it is a copy, the name that the system keeps beside it."""
    name = _of_path(_LINK)
    if name is not None:
        return name

    import tzlocal

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            zone = tzlocal.reload_localzone()
        except (KeyError, ValueError, OSError):  # two settings that contradict each other, among others
            return None
    return _known(getattr(zone, "key", ""))
