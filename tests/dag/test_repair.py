"""Repair of a real DVC repository after a kill or a power cut: the next run ends in the same
bytes."""

import contextlib
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import flows
import pytest
import retrain_project
import yaml
from dvc.lock import make_lock
from dvc.repo import Repo
from long_cases import mostly_long

from pipeline.cli import health_checks
from pipeline.dag import lock_repair, lockfile, repair
from pipeline.dag.project_lock import flow_lock

LETTERS = "abcde"


def make(root: Path) -> Path:
    """A committed repository with a chain of quick stages: a folder, a file and a metric each."""
    stages, before = {}, ""
    for letter in LETTERS:
        command = (
            f"mkdir -p {letter} && cat {before or 'start'} > {letter}/x && echo {letter} "
            f"> {letter}/y"
        )
        stages[letter] = {
            "cmd": (
                f'{command} && cat {letter}/x {letter}/y > {letter}.txt && echo \'{{"m": '
                f"1}}' > {letter}.json"
            ),
            "deps": [before or "start"],
            "outs": [letter, f"{letter}.txt"],
            "metrics": [{f"{letter}.json": {"cache": False}}],
        }
        before = f"{letter}.txt"
    root.mkdir()
    (root / "start").write_text("start\n")
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))
    (root / "presets").mkdir()
    (root / ".gitignore").write_text("/.seqline/\n")
    retrain_project.git(root, "init", "-q")
    Repo.init(str(root)).close()
    retrain_project.git(root, "add", ".")
    retrain_project.git(root, "commit", "-q", "-m", "start")
    return root


def reproduce(root: Path) -> None:
    with contextlib.chdir(root), Repo() as repo:
        repo.reproduce()


def contents(root: Path) -> dict[str, str]:
    """The lock and every output."""
    paths = [root / "dvc.lock", *(path for letter in LETTERS for path in root.glob(f"{letter}*/*"))]
    paths += [root / f"{letter}.{ending}" for letter in LETTERS for ending in ("txt", "json")]
    return {str(path.relative_to(root)): path.read_text() for path in paths}


def damaged_objects(root: Path) -> list[str]:
    """Objects of the cache that are not what their name says."""
    files = [file for file in (root / ".dvc/cache/files/md5").glob("*/*") if file.is_file()]
    assert files
    named = [(file, (file.parent.name + file.name).removesuffix(".dir")) for file in files]
    return [str(file) for file, md5 in named if hashlib.md5(file.read_bytes()).hexdigest() != md5]


@pytest.fixture(scope="module", autouse=True)
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A place of its own for DVC's databases."""
    place = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_SITE_CACHE_DIR", str(place))
        yield place


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, site: Path) -> Path:
    root = make(tmp_path_factory.mktemp("repair") / "project")
    reproduce(root)
    assert repair.repair(root) == []
    return root


@pytest.fixture
def healthy(done: Path) -> Iterator[Path]:
    """The project with all its stages done; after the test it has to be as it was, repaired and
    reproduced."""
    before = contents(done)
    yield done
    reproduce(done)
    assert contents(done) == before
    assert damaged_objects(done) == []
    assert repair.repair(done) == []


def overwrite(file: Path, content: bytes) -> None:
    """Put other content into the file and leave its mode as it is."""
    mode = file.stat().st_mode
    file.chmod(0o644)
    file.write_bytes(content)
    file.chmod(mode)


def cut(file: Path, share: float) -> None:
    overwrite(file, file.read_bytes()[: int(len(file.read_bytes()) * share)])


@pytest.mark.parametrize("share", mostly_long([0.0, 0.5, 0.999, 0.01, 0.3], 3))
@pytest.mark.parametrize("copied", [True, False])
def test_a_lock_that_was_cut_off_is_restored(healthy: Path, share: float, copied: bool) -> None:
    before = (healthy / "dvc.lock").read_text()
    if not copied:
        (healthy / ".seqline/flow/dvc.lock").unlink()
    cut(healthy / "dvc.lock", share)
    [line] = repair.repair(healthy)
    assert line.startswith("dvc.lock: restored, as it was cut off")
    if copied:
        assert (healthy / "dvc.lock").read_text() == before
    assert repair.repair(healthy) == []


def test_a_new_output_in_dvc_yaml_does_not_make_the_lock_damaged(healthy: Path) -> None:
    lock, stages = (healthy / "dvc.lock").read_text(), (healthy / "dvc.yaml").read_text()
    content = yaml.safe_load(stages)
    content["stages"][LETTERS[-1]]["outs"].append("more.txt")
    (healthy / "dvc.yaml").write_text(yaml.safe_dump(content, sort_keys=False))

    assert repair.repair(healthy) == []
    assert (healthy / "dvc.lock").read_text() == lock

    # A lock that was cut off then is restored from the copy, which names one output less.
    (healthy / "dvc.lock").write_text("")
    [line] = repair.repair(healthy)
    assert f"{len(LETTERS)} from .seqline/flow/dvc.lock" in line
    assert (healthy / "dvc.lock").read_text() == lock
    (healthy / "dvc.yaml").write_text(stages)


@pytest.mark.long
def test_a_lock_cut_off_anywhere_is_detected_or_ends_with_a_complete_stage(done: Path) -> None:
    text = (done / "dvc.lock").read_text()
    stages = lockfile.split_stages(text)
    assert stages is not None
    assert lock_repair.is_complete(done, text)
    for end in range(len(text)):
        rest = lock_repair.complete_stages(done, text[:end])
        assert rest == {name: stages[name] for name in list(stages)[: len(rest)]}, (
            "a stage that was cut off counts as complete"
        )
        if lock_repair.is_complete(done, text[:end]):
            assert rest
            assert lockfile.join_stages(rest) == text[:end]


@pytest.mark.parametrize("change", ["edited", "conflict", "newer"])
def test_a_complete_lock_is_never_replaced(healthy: Path, change: str) -> None:
    path = healthy / "dvc.lock"
    before = path.read_text()
    changed = {
        "edited": "# by hand\n" + before,
        "conflict": before.replace("  c:\n", "<<<<<<< ours\n  c:\n=======\n>>>>>>> theirs\n"),
        "newer": lockfile.join_stages(
            {"old": "  old:\n    cmd: true\n", **(lockfile.split_stages(before) or {})}
        ),
    }[change]
    path.write_text(changed)
    assert repair.repair(healthy) == []
    assert path.read_text() == changed
    path.write_text(before)


def test_the_lock_is_restored_from_git_without_a_copy(tmp_path: Path) -> None:
    root = make(tmp_path / "project")
    reproduce(root)
    retrain_project.git(root, "add", ".")
    retrain_project.git(root, "commit", "-q", "-m", "done")
    before = contents(root)
    cut(root / "dvc.lock", 0.0)
    [line] = repair.repair(root)
    assert f"{len(LETTERS)} from git's HEAD" in line
    assert contents(root) == before


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"write": {',
        b"[]",
        b'{"write": []}',
        b'{"read": {"a": [{"pid": null, "cmd": "x"}]}}',
        b'{"write": {"a": {"pid": -1, "cmd": "x"}}}',
        b'{"write": {"a": {"pid": 99999999999, "cmd": "x"}}}',
        b'{"write": {"a": {"cmd": "x"}}}',
        b"[" * 100_000,
    ],
)
def test_a_half_written_list_of_files_in_use_is_removed(healthy: Path, content: bytes) -> None:
    (healthy / ".dvc/tmp/rwlock").write_bytes(content)
    [line] = repair.repair(healthy)
    assert line.startswith(".dvc/tmp/rwlock: removed")


def test_an_entry_whose_process_number_was_reused_is_removed(healthy: Path) -> None:
    rwlock = healthy / ".dvc/tmp/rwlock"
    rwlock.write_text(
        json.dumps(
            {"read": {}, "write": {str(healthy / "a"): {"pid": os.getpid(), "cmd": "dvc repro"}}}
        )
    )
    os.utime(rwlock, (1e9, 1e9))
    [line] = repair.repair(healthy)
    assert str(os.getpid()) in line


def test_a_folder_of_the_run_cache_without_an_entry_is_removed(healthy: Path) -> None:
    for entry in list((healthy / ".dvc/cache/runs").glob("*/*/*"))[:2]:
        entry.unlink()
    (healthy / "c.txt").unlink()
    [line] = repair.repair(healthy)
    assert "removed 2 folders" in line


@pytest.mark.parametrize("damage", ["garbage", "cut", "folder"])
def test_damaged_databases_are_removed(healthy: Path, site: Path, damage: str) -> None:
    files = [file for file in site.rglob("cache.db") if str(healthy) in hashed_paths(file)]
    assert files
    for file in files:
        for beside in file.parent.glob("cache.db-*"):
            beside.unlink()
        content = file.read_bytes()
        file.unlink()
        if damage == "folder":
            file.mkdir()
        else:
            file.write_bytes(
                content[: len(content) // 2]
                if damage == "cut"
                else random.Random(1).randbytes(5000)
            )
    [line] = repair.repair(healthy)
    assert line.startswith("DVC's database of hashes: removed")


def hashed_paths(database: Path) -> str:
    return "".join(str(file.read_bytes()) for file in database.parent.glob("cache.db*"))


@pytest.mark.parametrize("content", [b"", b"\0\0\0\0\0\0", None])
def test_damaged_objects_are_removed_and_put_back_from_the_workspace(
    healthy: Path, content: bytes | None
) -> None:
    objects = sorted((healthy / ".dvc/cache/files/md5").glob("*/*"))
    for file in objects:
        overwrite(file, file.read_bytes()[:-1] + b"!" if content is None else content)
    [line] = repair.repair(healthy)
    assert f"removed {len(objects)} damaged objects" in line
    assert f"{len(objects)} put back" in line
    assert damaged_objects(healthy) == []
    assert all(file.stat().st_mode & 0o777 == 0o444 for file in objects)


def test_damaged_object_without_a_copy_is_recomputed(healthy: Path) -> None:
    (healthy / "c/x").unlink()
    (healthy / "c.txt").unlink()
    for file in (healthy / ".dvc/cache/files/md5").glob("*/*"):
        overwrite(file, b"")
    [line] = repair.repair(healthy)
    assert "made or pulled again" in line


def test_only_doctor_rehashes_known_files(healthy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []
    digest = hashlib.file_digest
    monkeypatch.setattr(
        hashlib, "file_digest", lambda file, name: hashed.append(file.name) or digest(file, name)
    )
    assert repair.repair(healthy) == []
    assert hashed == []
    assert health_checks.repairs(healthy).state == "ok"
    assert len(hashed) >= len(list((healthy / ".dvc/cache/files/md5").glob("*/*")))


@pytest.mark.parametrize(
    "record", [b"{", b"[]", b"5", b'{"@": 5}', b'{"@": [1]}', b'{"@": {"a": 1}}', b"[" * 100_000]
)
def test_a_damaged_record_of_hashed_files_is_replaced(healthy: Path, record: bytes) -> None:
    file = next((healthy / ".dvc/cache/files/md5").glob("*/*"))
    (healthy / ".seqline/flow/verified.json").write_bytes(record.replace(b"@", str(file).encode()))
    assert repair.repair(healthy) == []


@pytest.mark.parametrize("kind", ["folder", "pipe", "loop"])
def test_a_name_in_the_cache_that_is_not_a_file_is_ignored(healthy: Path, kind: str) -> None:
    place = healthy / ".dvc/cache/files/md5/ab" / ("c" * 30)
    place.parent.mkdir(exist_ok=True)
    if kind == "folder":
        place.mkdir()
    elif kind == "pipe":
        os.mkfifo(place)
    else:
        place.symlink_to(place)
    assert repair.repair(healthy, thorough=True) == []
    place.rmdir() if kind == "folder" else place.unlink()


def test_an_output_that_changed_without_a_new_time_is_restored(healthy: Path) -> None:
    file = healthy / "c/x"
    before = file.stat()
    file.write_bytes(b"!" * before.st_size)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    [line] = repair.repair(healthy)
    assert line.startswith("c/x: damaged")


def test_an_output_that_dvc_knows_to_be_changed_is_not_repaired(healthy: Path) -> None:
    (healthy / "c/x").write_text("edited by hand\n")
    assert repair.repair(healthy) == []


@pytest.mark.parametrize("by", ["lock", "rwlock"])
def test_nothing_is_touched_while_another_dvc_works(
    healthy: Path, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dvc.lock.DEFAULT_TIMEOUT", 0.1)
    cut(healthy / "dvc.lock", 0.5)
    damaged = (healthy / "dvc.lock").read_bytes()
    if by == "lock":
        with make_lock(str(healthy / ".dvc/tmp/lock"), tmp_dir=str(healthy / ".dvc/tmp")):
            assert repair.repair(healthy) == []
    else:
        with subprocess.Popen(["sleep", "600"]) as busy:
            entry = {"write": {str(healthy / "a"): {"pid": busy.pid, "cmd": "dvc repro"}}}
            (healthy / ".dvc/tmp/rwlock").write_text(json.dumps(entry))
            assert repair.repair(healthy) == []
            busy.kill()
    assert (healthy / "dvc.lock").read_bytes() == damaged
    assert len(repair.repair(healthy)) == 1


def test_a_flow_repairs_first_and_reports_it_in_one_line(
    healthy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut(healthy / "dvc.lock", 0.5)
    with flow_lock(healthy, wait=False):
        assert lock_repair.is_complete(healthy, (healthy / "dvc.lock").read_text())
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("seqline: dvc.lock: restored")


def test_the_command_prints_a_line_per_repair_and_nothing_without_damage(
    healthy: Path, seqline: Callable
) -> None:
    cut(healthy / "dvc.lock", 0.5)
    repaired = seqline(healthy, "repair")
    assert (repaired.status, len(repaired.out.splitlines()), repaired.err) == (0, 1, "")
    assert seqline(healthy, "repair") == (0, "", "")


@pytest.mark.parametrize("dvc", [True, False])
def test_a_folder_without_dvc_or_git_is_left_alone(dvc: bool, tmp_path: Path) -> None:
    (tmp_path / "dvc.lock").touch()
    if dvc:
        (tmp_path / ".dvc").mkdir()
        (tmp_path / ".dvc" / "config").touch()
    assert repair.repair(tmp_path) == []
    assert (tmp_path / "dvc.lock").exists()


@pytest.mark.long
def test_plain_dvc_killed_at_any_moment_and_repaired_ends_in_the_same_bytes(
    tmp_path: Path, site: Path
) -> None:
    command, env = [sys.executable, "-m", "dvc", "repro", "-q"], flows.surroundings(tmp_path, None)
    env |= {"DVC_SITE_CACHE_DIR": str(site)}
    undisturbed = make(tmp_path / "undisturbed")
    start = time.monotonic()
    subprocess.run(command, cwd=undisturbed, env=env, check=True)
    duration = time.monotonic() - start
    expected = contents(undisturbed)

    chance, kills = random.Random(5), 0
    root = make(tmp_path / "killed")
    for attempt in range(30):
        with subprocess.Popen(command, cwd=root, env=env, start_new_session=True) as process:
            try:
                process.wait(duration * chance.random())
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                kills += 1
        if process.returncode == 0:  # it has made all of it: the next kills need another project
            assert contents(root) == expected
            root = make(tmp_path / f"killed_{attempt}")
        if chance.random() < 0.5 and (root / "dvc.lock").exists():
            cut(root / "dvc.lock", chance.random())
        repaired = flows.seqline(root, env, "repair")
        assert repaired.returncode == 0, repaired.stderr
        if kills == 12:
            break
    assert kills

    done = subprocess.run(
        [sys.executable, "-m", "dvc", "repro"], cwd=root, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert contents(root) == expected
    assert damaged_objects(root) == []
