"""Changes to DVC that let many processes work at once. Only in the forks of fork_server.py; the
bytes of `dvc.lock` are those that DVC would have written.

- It writes over `dvc.lock`, so that a kill in that second leaves half of one: here a whole file
  takes its place.
- For each stage it reads and writes the whole lock by a parser that keeps comments: over a second
  for a hundred stages, in
  which all others wait. Here the stage's own part is written and put between the others.
- It looks twice a second whether a lock has come free: here fifty times.
- It never syncs its files. After a power cut, objects of its cache are empty, and trusted all the
  same. Here they and the
  outputs are on the disk before `dvc.lock` names them.
"""

import contextlib
import io
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.core.atomic import sync_file, sync_folder, sync_tree, write_file

_HEAD = "schema: '2.0'\nstages:\n"
# a stage's line: two spaces, a plain name, a colon
_NAME = re.compile(r"  ([^\s#'\"?&*!|>%@`{}\[\],][^\s:]*):\n")
_POLL_SECONDS, _PATIENCE_SECONDS = 0.02, 60.0


def fit() -> None:
    """Change DVC so, in this process."""
    import dvc.cachemgr
    import dvc.lock
    from dvc.dvcfile import Lockfile
    from dvc.utils.serialize import _common, _yaml

    _common._dump_data = _yaml._dump_data = _dump_whole
    Lockfile.dump_stages = _splicing(Lockfile.dump_stages)
    dvc.cachemgr.get_odb = _protecting(dvc.cachemgr.get_odb)
    dvc.lock.Lock.lock = _lock


def split_stages(text: str) -> dict[str, str] | None:
    """Lines of each stage of a lock file, by name; None for a file of another form than DVC gives
    it."""
    stages = leading_stages(text)
    return stages if join_stages(stages) == text else None


def leading_stages(text: str) -> dict[str, str]:
    """Lines of the stages before the first line of another form, by name; the last of them may be
    cut off."""
    stages: dict[str, str] = {}
    if not text.startswith(_HEAD):
        return stages

    name = ""
    for line in text[len(_HEAD) :].splitlines(keepends=True):
        if match := _NAME.fullmatch(line):
            name = match[1]
            if name in stages:
                break
            stages[name] = line
        elif line.startswith("   ") and name:
            stages[name] += line
        else:
            break
    return stages


def join_stages(found: Mapping[str, str]) -> str:
    """The opposite of `split_stages`."""
    return _HEAD + "".join(found.values())


def splice_stages(text: str, stages: dict[str, Any]) -> str | None:
    """The lock file with these stages put in, in place or at its end; None if that is not certain
    to be what DVC writes."""
    from dvc.utils.serialize import dumps_yaml

    found = split_stages(text or _HEAD)
    if found is None:
        return None
    for name, content in stages.items():
        own = split_stages(dumps_yaml({"schema": "2.0", "stages": {name: content}}))
        if own is None or list(own) != [name] or re.search(r"[&*]id\d", own[name]):
            # a name in quotes, or an anchor, whose number depends on the rest of the file
            return None
        found[name] = own[name]
    return join_stages(found)


def _splicing(by_dvc: Any) -> Any:
    def dump_stages(self: Any, stages: Any, **given: Any) -> None:
        from dvc.stage import serialize

        place = Path(self.path)
        text = place.read_text(encoding="utf-8") if place.exists() else ""
        content: dict[str, Any] = {}
        for stage in stages:
            _sync_outs(stage)
            content |= serialize.to_lockfile(stage, **given)
        wanted = splice_stages(text, content)
        if wanted is None:
            by_dvc(self, stages, **given)
        elif wanted != text:
            write_file(place, wanted.encode())
            self.repo.scm_context.track_file(self.relpath)

    return dump_stages


def _protecting(by_dvc: Any) -> Any:
    """Return a `get_odb` whose objects are synced before they are made read-only, which makes DVC
    trust them."""

    def get_odb(*args: Any, **options: Any) -> Any:
        odb = by_dvc(*args, **options)
        protect = odb.protect

        def sync_and_protect(path: str) -> None:
            # DVC has reported why it could not be added
            with contextlib.suppress(FileNotFoundError):
                sync_file(Path(path))
                sync_folder(Path(path).parent)
                sync_folder(Path(path).parent.parent)
            protect(path)

        if odb.CACHE_MODE is not None:  # a local one
            odb.protect = sync_and_protect
        return odb

    return get_odb


def _sync_outs(stage: Any) -> None:
    """Write the stage's outputs to the disk before `dvc.lock` names them; DVC may have restored
    them."""
    for out in stage.outs:
        if out.protocol == "local" and out.exists:
            sync_tree(Path(out.fs_path))
            sync_folder(Path(out.fs_path).parent)


def _dump_whole(path: Any, data: Any, dumper: Any, fs: Any = None, **given: Any) -> None:
    text = io.StringIO()
    dumper(data, text, **given)
    write_file(Path(path), text.getvalue().encode())


def _lock(self: Any) -> None:
    from dvc.lock import LockError

    until = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            self._do_lock()
            return
        except LockError:
            if not self._wait and time.monotonic() > until:
                raise
            time.sleep(_POLL_SECONDS)
