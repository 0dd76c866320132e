"""Make `.venv` match `constraints.txt` and `pyproject.toml`; do nothing if it already does.

    python3 bootstrap.py [--dev]

Only the standard library, in syntax that any Python from 3.6 on can read, so that an old Python
gets an error that names the problem. A stamp in `.venv` records the inputs that it was made from.
An installation that was killed leaves the stamp unfinished and starts again from nothing. A problem
that the user must fix gives one line on stderr and exit status 2."""

import argparse
import fcntl
import hashlib
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TextIO

OLDEST = (3, 11)
UNFINISHED = "unfinished"
GIGABYTE = 10**9
# Measured installed, then as downloaded wheels, in gigabytes: with the CPU's torch, and with
# CUDA's.
PLAIN, CUDA = (2.5, 1.0), (7.0, 3.0)


class SetupError(Exception):
    """A problem that the user must fix before the environment can be made."""


def check_python(version: "tuple[int, ...]") -> None:
    """Refuse a Python older than OLDEST, naming a newer one if the PATH has it."""
    if version[:2] >= OLDEST:
        return
    newer = [name for name in ("python3.13", "python3.12", "python3.11") if shutil.which(name)]
    todo = (
        f"Run `make PYTHON={newer[0]} ...`."
        if newer
        else "Install one and run `make PYTHON=<its path> ...`."
    )
    raise SetupError("Python: got {}.{}; expected 3.11 or later. {}".format(*version[:2], todo))


def check_venv_module() -> None:
    """Refuse a Python whose distribution has cut off `venv`, as Debian's does without its extra
    package."""
    for module in ("venv", "ensurepip"):
        if importlib.util.find_spec(module) is None:
            package = f"python3.{sys.version_info[1]}-venv"
            raise SetupError(
                f"Python: got one without its module {module}; expected venv and ensurepip. "
                f"On Debian or Ubuntu run `apt-get install {package}`."
            )


def digest(root: Path) -> str:
    """Return a digest of all that an environment for the project at `root` is made from. The path
    is included, since scripts contain it."""
    made_from = hashlib.sha256(str(root).encode())
    for name in ("constraints.txt", "pyproject.toml"):
        made_from.update((root / name).read_bytes())
    return made_from.hexdigest()


def is_current(venv: Path, inputs_digest: str, dev: bool) -> bool:
    """Return true if the stamp says that `venv` was finished from these inputs, with the
    development tools if `dev`."""
    words = read_stamp(venv).split()
    return words[:1] == [inputs_digest] and (not dev or "dev" in words[1:]) and runs(venv)


def read_stamp(venv: Path) -> str:
    """Return the stamp of an environment; empty if another program made it, or if there is none."""
    try:
        return (venv / "seqline.stamp").read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def write_stamp(venv: Path, words: str) -> None:
    """Replace the stamp in one step."""
    temporary = venv / "seqline.stamp.partial"
    temporary.write_text(words + "\n", encoding="utf-8")
    os.replace(str(temporary), str(venv / "seqline.stamp"))


def runs(venv: Path) -> bool:
    """Return true if the environment's Python starts, is new enough and has pip."""
    probe = f"import sys, pip; sys.exit(sys.version_info[:2] < {OLDEST!r})"
    try:
        return (
            subprocess.run(
                [str(venv / "bin" / "python"), "-c", probe], capture_output=True
            ).returncode
            == 0
        )
    except OSError:
        return False


def create(venv: Path) -> None:
    """Create an environment that can install. An existing one is kept unless it is unfinished,
    broken or too old."""
    if read_stamp(venv) == UNFINISHED or (venv.exists() and not runs(venv)):
        shutil.rmtree(str(venv))
    if not venv.exists():
        check_venv_module()
        venv.mkdir()
        write_stamp(venv, UNFINISHED)
        completed = subprocess.run(
            [sys.executable, "-m", "venv", str(venv)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if completed.returncode:
            output = " ".join(completed.stdout.split()) or "nothing said"
            raise SetupError(
                f"{venv}: got {output}; expected `{sys.executable} -m venv` to work. Fix that "
                "Python or name another."
            )


def is_cuda(report: str) -> bool:
    """Return true if pip's report of what it would install includes CUDA for torch on this
    machine."""
    wheels = json.loads(report)["install"]
    needs = [need for wheel in wheels for need in wheel["metadata"].get("requires_dist", [])]
    return sys.platform == "linux" and any(need.startswith(("nvidia-", "cuda-")) for need in needs)


def needs(root: Path, cuda: bool) -> "dict[str, float]":
    """Return the gigabytes that an installation takes, by folder: the project's, the temporary one
    and pip's cache."""
    installed, wheels = CUDA if cuda else PLAIN
    cache = os.environ.get("PIP_CACHE_DIR") or os.path.expanduser("~")
    gigabytes = {str(root): installed}
    for folder in (tempfile.gettempdir(), cache):
        gigabytes[folder] = gigabytes.get(folder, 0.0) + wheels
    return gigabytes


def check_disk(gigabytes_of: "dict[str, float]") -> None:
    """Refuse when the folders of one disk together need more gigabytes than it has free."""
    disks: dict[int, list[tuple[float, Path]]] = {}
    for folder, gigabytes in gigabytes_of.items():
        existing = Path(folder)
        while not existing.exists():
            existing = existing.parent
        disks.setdefault(existing.stat().st_dev, []).append((gigabytes, existing))
    for shares in disks.values():
        total, free = (
            sum(gigabytes for gigabytes, _ in shares),
            shutil.disk_usage(str(shares[0][1])).free / GIGABYTE,
        )
        if free < total:
            raise SetupError(
                f"{shares[0][1]}: got {free:.1f} GB free; expected {total:.1f} GB for the "
                "packages and their downloads. "
                "Free some space, or point TMPDIR and PIP_CACHE_DIR to another disk."
            )


def diagnose(output: str, log: Path) -> SetupError:
    """Return a one-line error that says why pip failed, from all of its output."""
    unreachable = re.search(
        r"NewConnectionError|NameResolutionError|Temporary failure in name "
        r"resolution|ConnectTimeout|ReadTimeout|ProxyError|"
        r"SSLError|SSLCertVerificationError|Connection refused|Network is unreachable|"
        r"Connection reset|RemoteDisconnected",
        output,
    )
    nothing = re.search(r"requirement (\S+) \(from versions: none\)", output)
    if "No space left on device" in output or "Errno 28" in output:
        return SetupError(
            f"{log.parent}: got a full disk; expected room for the packages. Free some space "
            "and run again."
        )
    if unreachable:
        return SetupError(
            f"the package index: got {unreachable[0]!r}; expected an answer. Check the network "
            "or the proxy, or name "
            f"a mirror in PIP_INDEX_URL, and run again (see {log})."
        )
    if nothing:
        this_python = f"Python {platform.python_version()} on {platform.machine()}"
        return SetupError(
            f"{nothing[1]}: got none from the package index; expected one for {this_python}. "
            "Check the network, the proxy or the mirror in PIP_INDEX_URL, or run "
            f"`make PYTHON=...` with a Python that it has one for (see {log})."
        )
    errors = [line for line in output.splitlines() if line.startswith("ERROR: ")]
    last = errors[-1][len("ERROR: ") :] if errors else "a failure without a message"
    return SetupError(f"pip: got {last}; expected an installation. See {log}.")


class Progress:
    """Progress of pip: on a terminal one line, rewritten; elsewhere a line per 25 packages."""

    def __init__(self) -> None:
        self._wheels = 0
        self._rewrites = sys.stdout.isatty()

    def note(self, line: str) -> None:
        """Print what a line of pip's output adds."""
        words = line.split()
        if words[:1] == ["Downloading"] and not words[1].endswith(".metadata"):
            self._wheels += 1
            if self._rewrites:
                name = words[1].rsplit("/", 1)[-1].split("-")[0]
                text = f"  {self._wheels:3} packages downloaded, now {name}"
                print(f"\r{text:79.79}", end="", flush=True)
            elif self._wheels % 25 == 0:
                print(f"  {self._wheels:3} packages downloaded", flush=True)
        elif words[:2] == ["Installing", "collected"]:
            if self._rewrites and self._wheels:
                print()
            count = line.count(",") + 1
            text = f"  unpacking {count} packages: about a minute without a word"
            print(text, flush=True)


def pip(venv: Path, arguments: "list[str]", log: Path, progress: "Progress | None" = None) -> str:
    """Run pip and return its stdout. Everything it wrote goes to `log`, but stdout only with
    `progress`: else it is data."""
    command = [
        str(venv / "bin" / "python"),
        "-m",
        "pip",
        "--no-input",
        "--disable-pip-version-check",
        *arguments,
    ]
    lines = []
    with log.open("a", encoding="utf-8") as log_file, tempfile.TemporaryFile("w+") as stderr:
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=stderr, text=True, close_fds=False
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                lines.append(line)
                log_file.write("" if progress is None else line)
                if progress is not None:
                    progress.note(line)
        stderr.seek(0)
        errors = stderr.read()
        log_file.write(errors)
    if process.returncode:
        raise diagnose("".join(lines) + errors, log)
    return "".join(lines)


def install(root: Path, venv: Path, dev: bool) -> None:
    """Install the project with its pins. First ask the index for torch alone: this shows if it is
    available, and how much disk space to expect."""
    log = venv / "install.log"
    constraints = root / "constraints.txt"
    torch = next(
        line
        for line in constraints.read_text(encoding="utf-8").splitlines()
        if line.startswith("torch==")
    )
    arguments = [
        "install",
        "--dry-run",
        "--ignore-installed",
        "--no-deps",
        "--quiet",
        "--report",
        "-",
        torch,
    ]
    cuda = is_cuda(pip(venv, arguments, log))
    check_disk(needs(root, cuda))
    write_stamp(venv, UNFINISHED)
    print(
        f"bootstrap: installing into {venv} ({(CUDA if cuda else PLAIN)[0]:g} GB, some minutes)",
        flush=True,
    )
    project = str(root) + ("[dev]" if dev else "")
    pip(
        venv,
        ["install", "--progress-bar", "off", "-c", str(constraints), "-e", project],
        log,
        Progress(),
    )


def hold(lock: TextIO) -> None:
    """Wait for the lock, and let pip inherit it: a pip that outlives a killed bootstrap still makes
    the next one wait."""
    os.set_inheritable(lock.fileno(), True)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("bootstrap: waiting for another set-up of this project", flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)


def ensure(root: Path, dev: bool) -> None:
    """Install the pinned versions into `root`/.venv. One process does this at a time; the others
    wait and then find nothing to do."""
    venv = root / ".venv"
    inputs_digest = digest(root)
    with (root / ".venv.lock").open("w") as lock:
        hold(lock)
        if is_current(venv, inputs_digest, dev):
            return
        dev = dev or "dev" in read_stamp(venv).split()
        create(venv)
        install(root, venv, dev)
        write_stamp(venv, inputs_digest + (" dev" if dev else ""))


def main() -> None:
    """Parse the command line, make the environment, and print a user's error in one line."""
    parser = argparse.ArgumentParser(description="Install the pinned versions into .venv.")
    parser.add_argument("--dev", action="store_true", help="with the tools for tests and lint")
    dev = parser.parse_args().dev
    try:
        check_python(tuple(sys.version_info[:3]))
        ensure(Path(__file__).resolve().parent, dev)
    except SetupError as error:
        print(f"bootstrap: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        print(
            f"bootstrap: {error.filename}: got {error.strerror}; expected to read and write there.",
            file=sys.stderr,
        )
        sys.exit(2)


if __name__ == "__main__":
    main()
