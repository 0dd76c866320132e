"""Every replacement of a DVC function, written for DVC 3.67.1.

`apply` changes DVC in this process, so that many processes can work at once and a power cut does
no harm. The bytes of `dvc.lock` stay those that DVC would have written.

- `Lockfile.dump_stages`. DVC parses and writes the whole lock for each stage, over a second for a
  hundred stages, while all others wait. Here only the stage's own part is written.
- `serialize._common._dump_data`. DVC writes over a file, so that a kill leaves half of it. Here a
  complete file takes its place.
- `cachemgr.get_odb`. DVC never syncs the objects of its cache: after a power cut they are empty,
  and trusted. Here they are on the disk before they become read-only.
- `Lock.lock`. DVC tries a lock twice a second. Here fifty times.
- `serialize.parse_yaml`. DVC parses params.yaml and dvc.lock again and again. Here a text is parsed
  once (yaml_cache.py).
- `dependency.param.read_param_file`. DVC looks for each key by walking through the whole file, half
  of the time of a plan. Here a key is looked up in the mappings that its name leads through.
- `stage.run._run`, in the fork server only (`run_commands_by`). DVC starts a shell for a stage's
  command. Here the stages of this project are forks of a process that has imported torch.

`run.dvc: plain` in flow.yaml turns `apply` off: then each stage is `dvc repro --single-item STAGE`
of the unchanged DVC (dvc_runner.py). tests/dag/test_plain_dvc.py compares the two.
"""

import contextlib
import io
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipeline.core.atomic import sync_file, sync_folder, sync_tree, write_file
from pipeline.dag.lockfile import splice_stages
from pipeline.dag.yaml_cache import YamlCache

RunCommand = Callable[[str, Mapping[str, str], str], int | None]
"""Run a command with this environment in this folder; return its exit status, or None."""

_POLL_SECONDS = 0.02
_LOCK_SECONDS = 60.0  # DVC's own limit is 3 s
_ABSENT = object()
_PATTERN = re.compile(r"[*?\[]|^\d+$")  # a number may be an index


def apply() -> YamlCache:
    """Replace the functions in this process; they cannot be put back. Return the cache of what is
    parsed."""
    import dvc.cachemgr
    import dvc.dependency.param
    import dvc.lock
    from dvc.dvcfile import Lockfile
    from dvc.utils import serialize, strictyaml
    from dvc.utils.serialize import _common, _yaml

    cache = YamlCache(_yaml.parse_yaml)
    for module in (_yaml, serialize, strictyaml):  # each has imported the name
        module.parse_yaml = cache.parse
    _common._dump_data = _yaml._dump_data = _dump_data  # the second module imported the name
    Lockfile.dump_stages = _dump_stages_with(Lockfile.dump_stages)
    dvc.cachemgr.get_odb = _get_odb_with(dvc.cachemgr.get_odb)
    dvc.lock.Lock.lock = _lock
    dvc.dependency.param.read_param_file = _read_param_file_with(
        dvc.dependency.param.read_param_file, dvc.dependency.param.load_path
    )
    return cache


def run_commands_by(run: RunCommand) -> None:
    """Run the stages' commands by `run`, and those for which it returns None as DVC does."""
    import dvc.stage.run

    dvc.stage.run._run = _run_with(dvc.stage.run._run, run)


def _run_with(original: Any, run: RunCommand) -> Any:
    """Return a `stage.run._run` that has a command run by `run`."""

    def run_command(executable: Any, command: str, **options: Any) -> None:
        from dvc.stage.exceptions import StageCmdFailedError

        status = run(command, options["env"], options["cwd"])
        if status is None:
            original(executable, command, **options)
        elif status:
            raise StageCmdFailedError(command, status)

    return run_command


def _dump_stages_with(original: Any) -> Any:
    """Return a `Lockfile.dump_stages` that splices the stages into the text of `dvc.lock`."""

    def dump_stages(self: Any, stages: Any, **options: Any) -> None:
        from dvc.stage import serialize

        path = Path(self.path)
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        content: dict[str, Any] = {}
        for stage in stages:
            # The outputs first: DVC may have restored them, and the lock names them.
            for out in stage.outs:
                if out.protocol == "local" and out.exists:
                    sync_tree(Path(out.fs_path))
                    sync_folder(Path(out.fs_path).parent)
            content |= serialize.to_lockfile(stage, **options)

        spliced = splice_stages(text, content)
        if spliced is None:
            original(self, stages, **options)
        elif spliced != text:
            write_file(path, spliced.encode())
            self.repo.scm_context.track_file(self.relpath)

    return dump_stages


def _dump_data(path: Any, data: Any, dumper: Any, fs: Any = None, **options: Any) -> None:
    """Replace a file of DVC in one step."""
    text = io.StringIO()
    dumper(data, text, **options)
    write_file(Path(path), text.getvalue().encode())


def _get_odb_with(original: Any) -> Any:
    """Return a `get_odb` that syncs objects before they become read-only, which DVC trusts."""

    def get_odb(*args: Any, **options: Any) -> Any:
        odb = original(*args, **options)
        protect = odb.protect

        def sync_and_protect(path: str) -> None:
            # The object is absent if it could not be added, which DVC has reported.
            with contextlib.suppress(FileNotFoundError):
                sync_file(Path(path))
                sync_folder(Path(path).parent)
                sync_folder(Path(path).parent.parent)
            protect(path)

        if odb.CACHE_MODE is not None:  # only local stores have a mode
            odb.protect = sync_and_protect
        return odb

    return get_odb


def _read_param_file_with(original: Any, load: Any) -> Any:
    """Return a `read_param_file` that looks keys up, and leaves what it does not find to DVC."""

    def read_param_file(
        fs: Any, path: Any, key_paths: Any = None, flatten: bool = False, **options: Any
    ) -> Any:
        if not key_paths or not flatten:
            return original(fs, path, key_paths, flatten, **options)
        content = load(path, fs, **options)
        values = {key: _look_up(content, key) for key in key_paths}
        if any(value is _ABSENT for value in values.values()):
            return original(fs, path, key_paths, flatten, **options)
        return values

    return read_param_file


def _look_up(content: Any, dotted: str) -> Any:
    """Return the value under a dotted key; `_ABSENT` if there is none, and for a pattern."""
    for key in dotted.split("."):
        if not isinstance(content, dict) or key not in content or _PATTERN.search(key):
            return _ABSENT
        content = content[key]
    return content


def _lock(self: Any) -> None:
    """Acquire DVC's lock of the repository, or LockError after a minute without --wait-for-lock."""
    from dvc.lock import LockError

    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            self._do_lock()
            return
        except LockError:
            if not self._wait and time.monotonic() > deadline:
                raise
            time.sleep(_POLL_SECONDS)
