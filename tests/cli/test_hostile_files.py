"""Files of the user's own that cannot be copied, or change meanwhile: refused in one line, at
once."""

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.core.errors import UserError
from pipeline.download import own
from pipeline.download.addresses import local_path
from pipeline.download.failures import DownloadError
from pipeline.download.source import DownloadSettings, obtain

TEXT = b"the small cat sleeps\n" * 50
pytestmark = pytest.mark.timeout(60)


def copied(path: Path | str, folder: Path) -> Path:
    into = folder / "out"
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir()
    obtain("mine", {"path": str(path)}, into, DownloadSettings("", folder / "work"))
    return into


def refusal(path: Path | str, folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        copied(path, folder)
    line = str(caught.value)
    assert line.startswith("corpora.mine.source.path: got ")
    assert line.isprintable()
    return line


def link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def listening(path: Path) -> None:
    socket.socket(socket.AF_UNIX).bind(str(path))


KINDS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a link to itself": (link_to_itself, "which cannot be read (a link that leads back to itself)"),
    "a pipe": (os.mkfifo, "which is no regular file"),
    "a socket": (listening, "which is no regular file"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "which is no regular file"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_path_that_is_neither_file_nor_folder_is_refused(kind: str, tmp_path: Path) -> None:
    make, reason = KINDS[kind]
    make(tmp_path / "x")
    assert f"{tmp_path / 'x'}, {reason}" in refusal(tmp_path / "x", tmp_path)
    (tmp_path / "folder").mkdir()
    make(tmp_path / "folder" / "x")
    expected = reason if kind != "a device" else "which leads out of the folder"
    assert f"x, {expected}" in refusal(tmp_path / "folder", tmp_path)
    with pytest.raises(DownloadError):
        local_path((tmp_path / "x").as_uri())


def test_links_that_go_in_circles_or_nowhere_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "up").symlink_to("..")
    assert "deep/up, which is no regular file" in refusal(folder, tmp_path)
    (folder / "deep" / "up").unlink()
    (folder / "a").symlink_to("b")
    (folder / "b").symlink_to("a")
    assert "a, which cannot be read (a link that leads back to itself)" in refusal(folder, tmp_path)
    assert "which cannot be read (a link that leads back to itself)" in refusal(
        folder / "a" / "x", tmp_path
    )
    (folder / "a").unlink()
    assert "the link b, which leads nowhere" in refusal(folder, tmp_path)


@pytest.mark.parametrize("path", ["x\0y", "x" * 300, "x/" * 3000, "\x1b[2J"])
def test_a_path_that_cannot_be_is_refused(path: str, tmp_path: Path) -> None:
    refusal(path, tmp_path)


def test_a_name_that_is_no_utf8_is_refused_and_others_are_copied(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "日本 é.txt").write_bytes(TEXT)
    assert (copied(folder, tmp_path) / "日本 é.txt").read_bytes() == TEXT
    Path(os.fsdecode(bytes(folder) + b"/\xff\x1b[2J")).write_bytes(TEXT)
    assert r"got \udcff\x1b[2J; expected a name that is UTF-8" in refusal(folder, tmp_path)


@pytest.mark.parametrize("change", ["grow", "shrink", "rewrite"])
def test_a_file_that_changes_while_it_is_copied_is_refused(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, turns = tmp_path / "x", iter(range(1000))
    source.write_bytes(TEXT)
    os.utime(source, (1, 1))
    monkeypatch.setattr(own, "_CHUNK", 100)
    original = own.name_file_in_errors

    def change_file(path: Path) -> object:
        turn = next(turns)
        if change == "grow":
            with source.open("ab") as file:
                file.write(TEXT)
        elif turn == 2 and change == "shrink":
            os.truncate(source, 500)
        elif turn == 2:
            source.write_bytes(TEXT[::-1])
        return original(path)

    monkeypatch.setattr(own, "name_file_in_errors", change_file)
    assert "x, which changed while it was read; expected files at rest" in refusal(source, tmp_path)
    monkeypatch.setattr(own, "name_file_in_errors", original)
    assert (copied(source, tmp_path) / "x").read_bytes() == source.read_bytes()


def test_a_file_that_becomes_a_pipe_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "x"
    source.write_bytes(TEXT)
    original = own.files

    def swap(path: str, where: str) -> list[tuple[Path, str]]:
        pairs = original(path, where)
        source.unlink()
        os.mkfifo(source)
        return pairs

    monkeypatch.setattr(own, "files", swap)
    assert "x, which is no regular file" in refusal(source, tmp_path)


def test_an_unreadable_file_is_refused_and_never_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By stand-ins for the system's refusals, which do not hold for root."""
    folder = tmp_path / "folder"
    (folder / "closed").mkdir(parents=True)
    (folder / "closed" / "x").write_bytes(TEXT)
    (folder / "y").write_bytes(TEXT)
    original = Path.iterdir

    def listing(path: Path) -> object:
        if path.name == "closed":
            raise PermissionError(13, "Permission denied")
        return original(path)

    monkeypatch.setattr(Path, "iterdir", listing)
    assert "closed, which cannot be read (no permission to read it)" in refusal(folder, tmp_path)
    monkeypatch.setattr(Path, "iterdir", original)
    opened = os.open

    def closed(path: object, *rest: object, **keys: object) -> int:
        if str(path).endswith("folder/y"):
            raise PermissionError(13, "Permission denied")
        return opened(path, *rest, **keys)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", closed)
    assert "y, which cannot be read (no permission to read it)" in refusal(folder, tmp_path)
