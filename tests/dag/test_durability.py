"""Outputs survive a power cut: their data are synced before the rename that publishes them."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import retrain_project
import stage_runs
import yaml

from pipeline.core import atomic

ROOT = Path(__file__).resolve().parents[2]


class Rename(NamedTuple):
    """A rename; `unsynced` are files and folders of its source that were not synced since they were
    changed."""

    source: Path
    target: Path
    unsynced: list[str]


class Disk:
    """Record of syncs, and of renames into `folder`, in their order.

    `open_names` are folders renamed in and not synced since. Python renames compiled modules
    outside of `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.synced: dict[int, tuple[int, int]] = {}
        self.renames: list[Rename] = []
        self.open_names: set[int] = set()
        self.recording = True

    def fsync(self, descriptor: int) -> None:
        status = os.fstat(descriptor)
        self.synced[status.st_ino] = (status.st_size, status.st_mtime_ns)
        self.open_names.discard(status.st_ino)

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event != "os.rename" or not self.recording:
            return
        source, target = (Path(os.fsdecode(path)).absolute() for path in arguments[:2])
        if not source.exists() or not target.is_relative_to(self.folder):
            return
        inside = [source, *source.rglob("*")] if source.is_dir() else [source]
        self.renames.append(
            Rename(source, target, [str(path) for path in inside if not self.holds(path)])
        )
        self.open_names.add(target.parent.stat().st_ino)

    def holds(self, path: Path) -> bool:
        """Return whether the file or folder was synced since its last change."""
        status = path.stat()
        return self.synced.get(status.st_ino) == (status.st_size, status.st_mtime_ns)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Disk]:
    record = Disk(tmp_path)
    sync = os.fsync

    def fsync(descriptor: int) -> None:
        sync(descriptor)
        record.fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    # of this process's renames, whoever calls them; it cannot be taken off
    sys.addaudithook(record.hear)
    yield record
    record.recording = False


def unsafe(disk: Disk) -> list[Rename]:
    return [rename for rename in disk.renames if rename.unsynced]


def test_a_folder_is_on_the_disk_before_it_has_its_name(disk: Disk, tmp_path: Path) -> None:
    with atomic.atomic_dir(tmp_path / "out") as folder:
        (folder / "below").mkdir()
        (folder / "below" / "deep.txt").write_text("deep")
        (folder / "file.txt").write_text("file")
    assert [(rename.target, rename.unsynced) for rename in disk.renames] == [(tmp_path / "out", [])]
    assert not disk.open_names


def test_a_file_is_on_the_disk_before_it_has_its_name(disk: Disk, tmp_path: Path) -> None:
    with atomic.atomic_file(tmp_path / "out.txt") as file:
        file.write_text("content")
    atomic.write_file(tmp_path / "other.txt", b"content")
    assert [rename.target.name for rename in disk.renames] == ["out.txt", "other.txt"]
    assert not unsafe(disk)
    assert not disk.open_names


def test_every_stage_has_its_outputs_on_the_disk_before_it_ends(disk: Disk, tmp_path: Path) -> None:
    root = retrain_project.create(tmp_path / "project")
    for stage in ("download", "tokenize", "vocab", "encode"):
        stage_runs.run(root, stage, "reviews")
    stage_runs.run(root, "scratch")
    for stage in ("train", "predict", "evaluate"):
        stage_runs.run(root, stage, "mlp")
    stage_runs.run(root, "report")
    published = {rename.target for rename in disk.renames}
    expected = {root / path for path in outputs(root)}
    assert expected <= published, sorted(map(str, expected - published))
    # A training copies its tables anew at every start (tables.mapped): after a power cut nobody
    # reads the copies.
    unsynced = [rename for rename in unsafe(disk) if rename.target.suffix != ".arrow"]
    assert not unsynced, unsynced
    assert not disk.open_names
    assert all(disk.holds(path) for out in expected for path in [out, *out.rglob("*")])


def outputs(root: Path) -> set[str]:
    """Every out and metric of the project's DAG; of the files of a run's plots, their folder."""
    named: set[str] = set()
    content = yaml.safe_load((root / "params.yaml").read_text())
    for block in yaml.safe_load((root / "dvc.yaml").read_text())["stages"].values():
        keys = content[block["foreach"].strip("${}")] if "foreach" in block else [""]
        for kind in ("outs", "metrics"):
            for item in block.get("do", block).get(kind, []):
                path = item if isinstance(item, str) else next(iter(item))
                path = str(Path(path).parent) if path.startswith("reports/plots/") else path
                named |= {path.replace("${key}", key) for key in keys}
    return named


WATCHED = """
import json, os, sys
from pathlib import Path

synced, untimely, locks, sync = {}, [], [], os.fsync

def fsync(descriptor):
    sync(descriptor)
    status = os.fstat(descriptor)
    synced[status.st_ino] = (status.st_size, status.st_mtime_ns)

def missing(paths):
    def state(path):
        return path.stat().st_size, path.stat().st_mtime_ns
    return [str(path) for path in paths if synced.get(path.stat().st_ino) != state(path)]

def hear(event, arguments):
    if event == "os.chmod" and arguments[1] & 0o777 == 0o444:
        untimely.extend(missing([Path(arguments[0])]))
    if event == "os.rename" and Path(os.fsdecode(arguments[1])).name == "dvc.lock":
        objects = [path for path in Path(".dvc/cache/files").rglob("*")]
        written = [Path(os.fsdecode(arguments[0])), Path("out"), Path("out/a"), *objects]
        untimely.extend(missing(written))
        locks.append(len([path for path in objects if path.is_file()]))

os.fsync = fsync
sys.addaudithook(hear)
sys.argv = ["durable_dvc", "--wait-for-lock", "repro", "--force", "--single-item", "made"]
from pipeline.dag import durable_dvc
try:
    durable_dvc.main()
finally:
    print(json.dumps([untimely, locks]))
"""


def test_a_flow_has_cache_and_outputs_on_the_disk_before_the_lock_names_them(
    tmp_path: Path,
) -> None:
    for words in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(words, cwd=tmp_path, check=True)
    stage = {
        "cmd": "mkdir out && echo content > out/a && echo more > file",
        "outs": ["out", "file"],
    }
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"made": stage}}))
    env = os.environ | {"PYTHONPATH": str(ROOT), "DVC_SITE_CACHE_DIR": str(tmp_path / "site")}
    done = subprocess.run(
        [sys.executable, "-c", WATCHED], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [[], [3]], (
        "two files and a folder's listing, all in time"
    )
