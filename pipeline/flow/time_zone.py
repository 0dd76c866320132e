"""The machine's time zone by its IANA name, which Prefect's server requires; else UTC, with the
reason.

TZ is read as the C library reads it. tzlocal, which reads the system's settings, ignores a TZ that
it cannot name and then returns the system's zone, which the user has just overridden."""

import os
import warnings
from pathlib import Path, PurePath
from typing import NamedTuple
from zoneinfo import ZoneInfo, available_timezones

from pipeline.core.errors import printable

_LINK = Path("/etc/localtime")
# Files beside the zones; their content depends on the machine.
_NO_NAMES = {"localtime", "posixrules", "Factory"}


class Zone(NamedTuple):
    """An IANA name; if it is UTC because the setting has no such name, the `problem` with that
    setting, else ""."""

    name: str
    problem: str


def machine_zone() -> Zone:
    """Name the zone of TZ or, where that is not set, of /etc/localtime."""
    setting = os.environ.get("TZ")
    if setting == "":
        return Zone("UTC", "")  # the C library's meaning of an empty TZ
    if setting is None:
        name = _of_system()
        source = "the system's time zone, which has no IANA name"
    else:
        # POSIX: a colon announces a file or a name, and may be left out.
        value = setting.removeprefix(":")
        path = Path(value)
        if path == _LINK:
            name = _of_system()
        else:
            name = _of_path(path) if path.is_absolute() else _iana_name(value)
        source = f"TZ={printable(setting)}, which is no IANA name"
    if name is not None:
        return Zone(name, "")
    return Zone("UTC", f"{source}; UTC is used. Set TZ to a name such as Europe/Berlin.")


def _iana_name(name: str) -> str | None:
    """Return the name if the IANA database has it, as Prefect's server requires; else None."""
    if name in _NO_NAMES:
        return None
    try:
        key = ZoneInfo(name).key
    except (KeyError, ValueError, OSError):  # no such name, or a damaged or unreadable file
        return None
    # Checked last, as it reads the header of every zone's file.
    return key if key in available_timezones() else None


def _of_path(path: Path) -> str | None:
    """Name of the zone in a file such as /usr/share/zoneinfo/Europe/Berlin: the end of its path, or
    of its link's target."""
    for candidate in dict.fromkeys((os.path.realpath(path), str(path))):
        parts = PurePath(candidate).parts[1:]
        roots = (
            number for number, part in enumerate(parts) if part.split(".")[0].startswith("zoneinfo")
        )
        below = next(roots, len(parts)) + 1
        # Below zoneinfo/ there may be posix/ or right/, and `uptodate` links: take the longest end
        # that is a name.
        for start in range(below, len(parts)):
            name = _iana_name("/".join(parts[start:]))
            if name is not None:
                return name
    return None


def _of_system() -> str | None:
    """Name of the zone of /etc/localtime: of its target or, if it is a copy, from the system's
    other settings."""
    name = _of_path(_LINK)
    if name is not None:
        return name

    import tzlocal

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            zone = tzlocal.reload_localzone()
        except (KeyError, ValueError, OSError):
            return None  # two settings of the system contradict each other, for example
    return _iana_name(getattr(zone, "key", ""))
