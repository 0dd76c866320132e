"""Outputs by their md5, out of a real DVC repository: its cache, its remotes, and what is said when
neither has them."""

import hashlib
import shutil
import subprocess
import threading
from pathlib import Path

import pytest
from dvc.repo import Repo

from pipeline.core.errors import UserError
from pipeline.dag import cache

FILES = {"a.txt": b"one\n", "b/c.txt": b"two\n", "b/d.bin": bytes(range(256)), "empty": b""}


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    """A repository that once held a folder and a file, both gone from it, with a remote that has
    neither."""
    root = tmp_path / "project"
    root.mkdir()
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    made = Repo.init(str(root))
    with made.config.edit() as settings:
        settings["remote"] = {"elsewhere": {"url": str(tmp_path / "remote")}}
    for name, content in FILES.items():
        (root / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "folder" / name).write_bytes(content)
    (root / "file").write_bytes(b"alone\n")
    return Repo(str(root))


def added(repo: Repo, name: str) -> str:
    """The md5 under which DVC has taken `name`, which is then removed."""
    [stage] = repo.add(str(Path(repo.root_dir) / name))
    md5 = str(stage.outs[0].hash_info.value)
    stage.outs[0].remove()
    return md5


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_a_folder_and_a_file_come_back_whole(repo: Repo, tmp_path: Path) -> None:
    root = Path(repo.root_dir)
    folder, file = added(repo, "folder"), added(repo, "file")
    assert folder.endswith(".dir")
    cache.materialize(root, folder, tmp_path / "laid" / "folder")
    cache.materialize(root, file, tmp_path / "laid" / "file")
    assert content(tmp_path / "laid" / "folder") == FILES
    assert (tmp_path / "laid" / "file").read_bytes() == b"alone\n"


def test_materialized_copy_does_not_share_bytes_with_cache(repo: Repo, tmp_path: Path) -> None:
    md5 = added(repo, "folder")
    for place in ("first", "second"):
        cache.materialize(Path(repo.root_dir), md5, tmp_path / place)
        (tmp_path / place / "a.txt").write_bytes(b"changed\n")
    assert content(tmp_path / "second") == FILES | {"a.txt": b"changed\n"}
    cache.materialize(Path(repo.root_dir), md5, tmp_path / "third")
    assert content(tmp_path / "third") == FILES


def test_missing_cache_objects_come_from_the_remote(repo: Repo, tmp_path: Path) -> None:
    md5 = added(repo, "folder")
    repo.push(remote="elsewhere", targets=[str(Path(repo.root_dir) / "folder.dvc")])
    held = Path(repo.cache.local.path)
    kept = held / md5[:2] / md5[2:]  # the list of files stays, as after a fetch that was killed
    for path in [path for path in held.rglob("*") if path.is_file() and path != kept]:
        path.unlink()
    cache.materialize(Path(repo.root_dir), md5, tmp_path / "laid")
    assert content(tmp_path / "laid") == FILES
    shutil.rmtree(held)
    cache.materialize(Path(repo.root_dir), md5, tmp_path / "again")
    assert content(tmp_path / "again") == FILES


def test_missing_object_is_refused_in_one_line_without_traces(repo: Repo, tmp_path: Path) -> None:
    md5 = added(repo, "folder")
    shutil.rmtree(repo.cache.local.path)
    with pytest.raises(UserError, match=rf"^{md5}: got no such output .*elsewhere") as error:
        cache.materialize(Path(repo.root_dir), md5, tmp_path / "laid" / "out")
    assert "\n" not in str(error.value)
    assert content(tmp_path / "laid").keys() <= {".out.lock", ".out.wanted.lock"}


def test_a_folder_that_is_no_repository_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a DVC cache and remotes that can be read") as error:
        cache.materialize(tmp_path, "0" * 32, tmp_path / "laid")
    assert "\n" not in str(error.value)


def test_remote_object_with_wrong_hash_is_rejected(repo: Repo, tmp_path: Path) -> None:
    md5 = added(repo, "file")
    repo.push(remote="elsewhere", targets=[str(Path(repo.root_dir) / "file.dvc")])
    [pushed] = [path for path in (tmp_path / "remote").rglob("*") if path.is_file()]
    pushed.chmod(0o644)
    pushed.write_bytes(b"spoilt\n")
    shutil.rmtree(repo.cache.local.path)
    with pytest.raises(UserError, match="got no such output"):
        cache.materialize(Path(repo.root_dir), md5, tmp_path / "laid")
    assert not (tmp_path / "laid").exists()


def test_several_at_once_lay_one_folder_that_none_takes_away(repo: Repo, tmp_path: Path) -> None:
    md5, seen = added(repo, "folder"), []

    def lay() -> None:
        cache.materialize(Path(repo.root_dir), md5, tmp_path / "laid")
        seen.append((content(tmp_path / "laid"), (tmp_path / "laid").stat().st_ino))

    threads = [threading.Thread(target=lay) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found for found, _ in seen] == [FILES] * 4
    assert len({inode for _, inode in seen}) == 1


def test_a_listing_that_points_outside_is_refused(repo: Repo, tmp_path: Path) -> None:
    text = (
        Path(repo.cache.local.oid_to_path(added(repo, "folder")))
        .read_text()
        .replace("a.txt", "../a.txt")
    )
    md5 = f"{hashlib.md5(text.encode()).hexdigest()}.dir"
    listing = Path(repo.cache.local.oid_to_path(md5))
    listing.parent.mkdir(exist_ok=True)
    listing.write_text(text)
    with pytest.raises(UserError, match=r"got \.\./a\.txt; expected a path inside of its folder"):
        cache.materialize(Path(repo.root_dir), md5, tmp_path / "laid")
    assert not (tmp_path / "a.txt").exists()


def test_a_damaged_object_is_never_laid_out(repo: Repo, tmp_path: Path) -> None:
    root, md5 = Path(repo.root_dir), added(repo, "file")
    file = Path(repo.cache.local.oid_to_path(md5))
    file.chmod(0o644)
    file.write_bytes(b"alone!")
    file.chmod(0o444)
    with pytest.raises(UserError, match=f"{md5}: got no such output"):
        cache.materialize(root, md5, tmp_path / "laid" / "file")
    assert not (tmp_path / "laid" / "file").exists()


def test_damaged_copy_is_materialized_again(repo: Repo, tmp_path: Path) -> None:
    root, md5, place = Path(repo.root_dir), added(repo, "folder"), tmp_path / "laid" / "folder"
    cache.materialize(root, md5, place)
    assert cache.md5_of(place) == md5
    (place / "a.txt").write_bytes(b"changed\n")
    cache.materialize(root, md5, place)
    assert content(place) == FILES
