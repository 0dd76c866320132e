"""`dvc.lock` that a kill cut off: found, and restored from what is left of it, the last complete one kept here, and git.

Plain dvc writes over the file in place, so that a kill in that moment leaves a part of it, or nothing. Entries of stages
that are lost with it cost no training: the next run takes their outputs from DVC's run cache.
"""

import re
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import yaml

from pipeline.flow import lockfile
from pipeline.landing import write_file

_COPY, _DAMAGED = Path(".seqline/flow/dvc.lock"), Path(".seqline/flow/dvc.lock.damaged")
_CONFLICT = re.compile(r"^(<{7}|>{7}) ", re.MULTILINE)  # git's; a person has to choose
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def problems(root: Path) -> list[Callable[[], str]]:
    """What restores a `dvc.lock` that was cut off; nothing for one that is complete, absent, or in conflict."""
    path = root / "dvc.lock"
    try:
        content = path.read_bytes()
    except OSError:
        return []  # none yet; or no file, of which DVC tells
    text = _text(content)
    if content == _kept(root) or is_complete(root, text) or _CONFLICT.search(text):
        return []
    rest, origin = _last_complete(root)
    kept = whole_stages(root, text)
    stages = kept | {name: lines for name, lines in rest.items() if name not in kept}
    wanted = lockfile.joined(stages) if stages else ""
    if wanted and wanted == text:
        return []
    return [lambda: _restore_lock(root, content, wanted, len(kept), len(stages), origin)]


def _kept(root: Path) -> bytes | None:
    """The copy of the last complete lock, which `keep` found complete by the dvc.yaml of that time."""
    try:
        return (root / _COPY).read_bytes()
    except OSError:
        return None


def _text(content: bytes) -> str:
    return content.decode("utf-8", "replace")


def is_complete(root: Path | None, text: str) -> bool:
    """Whether a lock file is one that was written to its end; of its last stage the outputs are those of dvc.yaml in `root`.

    None for a lock of another time, whose dvc.yaml may have been another.
    """
    if not text.endswith("\n") or "\0" in text:
        return False
    found = lockfile.parts(text)
    if found is None:  # edited by hand, or of another DVC
        try:
            content = yaml.load(text, _LOADER)
        except yaml.YAMLError:
            return False
        return isinstance(content, dict) and isinstance(content.get("stages"), dict)
    last = next(reversed(found), None)
    return last is not None and _is_whole(root, last, found[last])


def whole_stages(root: Path, text: str) -> dict[str, str]:
    """The stages that a damaged lock file holds whole, from its beginning on."""
    found = lockfile.leading_parts(text)
    last = list(found)[-1:]
    return {name: part for name, part in found.items() if name not in last or _is_whole(root, name, part)}


def _is_whole(root: Path | None, name: str, part: str) -> bool:
    """Whether the lines of a stage end where DVC ends them: with its last output's size and number of files."""
    try:
        stage = yaml.safe_load(part)[name]
        outs = stage.get("outs")
    except (yaml.YAMLError, AttributeError, KeyError, TypeError):
        return False
    if not part.endswith("\n") or "cmd" not in stage:
        return False
    if root is not None and len(outs or []) < _number_of_outs(root, name):
        return False
    if not outs:
        return True
    last = outs[-1]
    if not isinstance(last, dict) or not isinstance(last.get("md5"), str) or "size" not in last:
        return False
    return "nfiles" in last or not last["md5"].endswith(".dir")


def _number_of_outs(root: Path, name: str) -> int:
    """How many outputs dvc.yaml gives the stage, of which its entry names each."""
    try:
        stage = yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))["stages"][name.partition("@")[0]]
        stage = stage.get("do", stage)
        return sum(len(stage.get(kind) or []) for kind in ("outs", "metrics", "plots"))
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        return 1


def _last_complete(root: Path) -> tuple[dict[str, str], str]:
    """The stages of the last complete lock that is kept here or in git, whichever is newer, and where it is from."""
    found = []
    with suppress(OSError, ValueError):
        found.append(((root / _COPY).stat().st_mtime, (root / _COPY).read_text(encoding="utf-8"), str(_COPY)))
    committed = _git(root, "show", "HEAD:./dvc.lock")
    if committed:
        when = _git(root, "log", "-1", "--format=%ct", "--", "dvc.lock").strip()
        found.append((float(when or 0), committed, "git's HEAD"))
    for _, text, origin in sorted(found, reverse=True):
        # dvc.yaml may have got outputs since then, so they are not counted here.
        if is_complete(None, text) and (stages := lockfile.parts(text)):
            return stages, origin
    return {}, ""


def _git(root: Path, *words: str) -> str:
    """What git says, or nothing if it refuses."""
    try:
        done = subprocess.run(["git", *words], cwd=root, capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return _text(done.stdout) if done.returncode == 0 else ""


def _restore_lock(root: Path, damaged: bytes, wanted: str, kept: int, stages: int, origin: str) -> str:
    write_file(root / _DAMAGED, damaged)
    if wanted:
        write_file(root / "dvc.lock", wanted.encode())
    else:
        (root / "dvc.lock").unlink()
    more = f", {stages - kept} from {origin}" if stages > kept else ""
    return (
        f"dvc.lock: restored, as it was cut off ({kept} stages from what was left of it{more}); "
        "the next run takes what is missing from DVC's run cache"
    )


def keep(root: Path) -> None:
    """Copy a complete `dvc.lock` to where a later repair finds it."""
    with suppress(FileNotFoundError):
        content = (root / "dvc.lock").read_bytes()
        copy = root / _COPY
        if (not copy.exists() or copy.read_bytes() != content) and is_complete(root, _text(content)):
            write_file(copy, content)
