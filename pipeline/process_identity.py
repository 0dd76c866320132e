"""Which process wrote a file: its number, and what no later process with the same number shares.

Process numbers are reused, start again at every boot, and mean another process in every PID namespace (containers,
`unshare -p`). A number out of a file is therefore never enough to signal a process, or to call it alive.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

import psutil

_PROC = Path("/proc")
_TEXT = re.compile(r"([0-9]{1,10}) ([0-9.]{1,32}) ([\w-]{1,64}) ([\w:\[\]-]{1,64})")
_UNKNOWN = "-"


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """`started` is in clock ticks since the boot `boot_id` (seconds since 1970 where there is no /proc); `namespace` is
    the PID namespace in which `pid` counts.
    """

    pid: int
    started: str
    boot_id: str
    namespace: str

    def __str__(self) -> str:
        """The text that `parse` reads; its first word is the number, for people."""
        return f"{self.pid} {self.started} {self.boot_id} {self.namespace}"

    def is_alive(self) -> bool:
        """Return whether this very process runs: same boot, namespace and start. A zombie does not run."""
        return same_process(self, _identity(str(self.pid)))


def current_process() -> ProcessIdentity:
    """Identify this process."""
    found = _identity("self")
    assert found is not None, "a process that asks is alive"
    return found


def parse(text: str) -> ProcessIdentity | None:
    """Read what `str(ProcessIdentity)` wrote; None for anything else, such as a bare number or half a line."""
    found = _TEXT.fullmatch(text.strip())
    return ProcessIdentity(int(found[1]), found[2], found[3], found[4]) if found else None


def read(path: Path) -> ProcessIdentity | None:
    """Read the identity that the file holds; None if it holds none, or cannot be read."""
    try:
        return parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def same_process(one: ProcessIdentity | None, other: ProcessIdentity | None) -> bool:
    """Return whether both are known and are the same process."""
    return one is not None and one == other


def _identity(which: str) -> ProcessIdentity | None:
    """Identify the process `which`, a number or "self"; None if it does not run.

    Of itself a process asks for `/proc/self`: in a namespace whose /proc is still the outer one, its own number belongs to
    a stranger there.
    """
    if not (_PROC / "self" / "stat").exists():
        return _identity_without_proc(os.getpid() if which == "self" else int(which))
    try:
        state, *fields = (_PROC / which / "stat").read_bytes().rpartition(b") ")[2].split()
        boot_id = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        namespace = os.readlink(_PROC / "self/ns/pid")  # numbers are looked up in this process's own
    except OSError:
        return None
    if state in (b"Z", b"X"):
        return None
    pid = os.getpid() if which == "self" else int(which)
    return ProcessIdentity(pid, fields[18].decode(), boot_id, namespace)  # field 22 of proc(5), counted after the name


def _identity_without_proc(pid: int) -> ProcessIdentity | None:
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return ProcessIdentity(pid, str(process.create_time()), _UNKNOWN, _UNKNOWN)
    except (psutil.Error, OSError):
        return None
