"""Identity of a process, to be written to a file: its number, and values that no later process
with the same number shares.

Process numbers are reused, start again at every boot, and mean another process in every PID
namespace (containers, `unshare -p`). A number read from a file is therefore not enough to signal a
process, or to call it alive."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_PROC = Path("/proc")
_TEXT = re.compile(r"([0-9]{1,10}) ([0-9.]{1,32}) ([\w-]{1,64}) ([\w:\[\]-]{1,64})")
_UNKNOWN = "-"


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """`started` is in clock ticks since the boot `boot_id` (seconds since 1970 where there is no
    /proc); `namespace` is the PID namespace in which `pid` counts."""

    pid: int
    started: str
    boot_id: str
    namespace: str

    def __str__(self) -> str:
        """The text that `parse` reads; its first word is the number, for people."""
        return f"{self.pid} {self.started} {self.boot_id} {self.namespace}"

    def is_alive(self) -> bool:
        """Return whether this very process runs: same boot, namespace and start. A zombie does not
        run."""
        return self == _identity(str(self.pid))


def current_process() -> ProcessIdentity:
    """Identify this process."""
    identity = _identity("self")
    assert identity is not None, "the process that calls is alive"
    return identity


def sign(lock: IO[str]) -> None:
    """Replace the content of an open file, whose lock this process holds, by its identity."""
    lock.truncate(0)
    lock.write(str(current_process()))
    lock.flush()


def parse(text: str) -> ProcessIdentity | None:
    """Read the text of `str(ProcessIdentity)`; None for anything else, such as a bare number or
    half a line."""
    match = _TEXT.fullmatch(text.strip())
    return ProcessIdentity(int(match[1]), match[2], match[3], match[4]) if match else None


def read(path: Path) -> ProcessIdentity | None:
    """Read the identity that the file holds; None if it holds none, or cannot be read."""
    try:
        return parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _identity(name: str) -> ProcessIdentity | None:
    """Identify the process of `/proc/NAME`, a number or "self"; None if it does not run.

    A process looks itself up as `/proc/self`: in a namespace whose /proc is still the outer one,
    its number belongs to another process there."""
    pid = os.getpid() if name == "self" else int(name)

    if not (_PROC / "self" / "stat").exists():
        return _identity_without_proc(pid)
    try:
        state, *fields = (_PROC / name / "stat").read_bytes().rpartition(b") ")[2].split()
        boot_id = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        # Numbers count in the namespace of the process that reads /proc.
        namespace = os.readlink(_PROC / "self/ns/pid")
    except OSError:
        return None

    if state in (b"Z", b"X"):  # zombie, dead
        return None
    # Start time: field 22 of proc(5), where the state is field 3.
    return ProcessIdentity(pid, fields[18].decode(), boot_id, namespace)


def _identity_without_proc(pid: int) -> ProcessIdentity | None:
    """Identify the process where there is no /proc, as on macOS."""
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return ProcessIdentity(pid, str(process.create_time()), _UNKNOWN, _UNKNOWN)
    except (psutil.Error, OSError):
        return None
