"""Archives that are unpacked by their names: the user's own zip, and an address that serves an
archive where a text is expected."""

import gzip
import hashlib
import io
import stat
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.errors import UserError
from pipeline.download import own, tar_stream
from pipeline.download.source import DownloadSettings, obtain

TEXT = b"the small cat sleeps\n" * 50
OTHER = b"a dog barks\n" * 30


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def tarred(members: dict[str, bytes], mode: str = "w") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:  # type: ignore[call-overload]
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def obtained(source: dict[str, Any], folder: Path) -> dict[str, bytes]:
    """Files of a corpus but the manifest."""
    into = folder / "out"
    into.mkdir()
    obtain("mine", source, into, DownloadSettings("", folder / "work"))
    files = [path for path in into.rglob("*") if path.is_file() and path.name != "manifest.json"]
    return {path.relative_to(into).as_posix(): path.read_bytes() for path in files}


def refusal(source: dict[str, Any], folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        obtained(source, folder)
    assert str(caught.value).startswith("corpora.mine.source.")
    return str(caught.value)


# The user's own archive


def test_all_files_of_an_own_zip_are_read_with_their_folders(tmp_path: Path) -> None:
    members = {
        "data/": b"",
        "data/train.csv": TEXT,
        "data/more/é.csv": OTHER,
        "__MACOSX/data/._train.csv": b"x",
        "data/.DS_Store": b"x",
    }
    (tmp_path / "x.zip").write_bytes(zipped(members))
    found = obtained({"path": str(tmp_path / "x.zip")}, tmp_path)
    assert found == {"data/train.csv": TEXT, "data/more/é.csv": OTHER}


def test_an_own_gzip_is_unpacked_unless_it_holds_a_tar(tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(TEXT))
    assert obtained({"path": str(tmp_path / "a.csv.gz")}, tmp_path) == {"a.csv": TEXT}


def test_an_own_tar_and_a_zip_in_a_folder_stay_as_they_are(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    packed = {"x.zip": zipped({"a": TEXT}), "x.tar.gz": tarred({"a": TEXT}, "w:gz")}
    for name, data in packed.items():
        (folder / name).write_bytes(data)
    assert obtained({"path": str(folder)}, tmp_path) == packed
    (tmp_path / "out").rename(tmp_path / "before")
    found = obtained({"path": str(folder / "x.tar.gz")}, tmp_path)
    assert found == {"x.tar.gz": packed["x.tar.gz"]}


def test_the_contents_of_an_own_zip_have_the_names_and_bytes_of_its_copy(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(zipped({"a": TEXT, "b": OTHER}))
    read = {
        name: b"".join(chunks) for name, chunks in own.contents(str(tmp_path / "x.zip"), "path")
    }
    assert read == obtained({"path": str(tmp_path / "x.zip")}, tmp_path)


def link() -> bytes:
    info = zipfile.ZipInfo("a")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(info, "/etc/passwd")
    return out.getvalue()


def encrypted() -> bytes:
    data = bytearray(zipped({"a": TEXT}))
    for magic, place in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
        data[data.index(magic) + place] |= 1
    return bytes(data)


def corrupt() -> bytes:
    data = bytearray(zipped({"a": TEXT}, zipfile.ZIP_STORED))
    data[data.index(b"small")] ^= 1
    return bytes(data)


HOSTILE = {
    "leads up": (zipped({"../a": TEXT}), "a member called ../a"),
    "absolute": (zipped({"/a": TEXT}), "a member called /a"),
    "not printable": (zipped({"a\x1b[2J": TEXT}), "a member called a"),
    "a file and its folder": (zipped({"a": TEXT, "a/b": OTHER}), "two members at a/b"),
    "a link": (link(), "the link a"),
    "a password": (encrypted(), "a, which needs a password"),
    "another method": (zipped({"a": TEXT}, zipfile.ZIP_LZMA), "another method than deflate"),
    "damaged": (corrupt(), "Bad CRC-32"),
    "cut off": (zipped({"a": TEXT})[:100], "not a zip file"),
    "a bomb": (zipped({"a": bytes(30_000_000)}), "many times its size unpacked"),
    "no file": (zipped({"a/": b""}), "x.zip, which holds no file"),
    "the manifest": (zipped({"manifest.json": b"{}"}), "a file manifest.json"),
    "a cut gzip": (gzip.compress(TEXT)[:40], "cannot be unpacked"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", HOSTILE)
def test_an_own_archive_that_cannot_be_unpacked_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, said = HOSTILE[name]
    monkeypatch.setattr(tar_stream, "_MOST_EXTRA", 1 << 20)
    (tmp_path / "x.zip").write_bytes(data)
    line = refusal({"path": str(tmp_path / "x.zip")}, tmp_path)
    assert line.startswith("corpora.mine.source.path: got ")
    assert said in line


# Archives at an address


def unpinned(name: str, data: bytes, folder: Path) -> dict[str, Any]:
    (folder / "served").write_bytes(data)
    url = (folder / "served").as_uri()
    return {"files": [{"name": name, "sha256": None, "bytes": None, "urls": [url]}]}


@pytest.mark.parametrize(
    "data",
    [
        zipped({"folder/other.txt": TEXT}),
        zipped({"a.txt": OTHER, "folder/corpus.txt": TEXT}),
        gzip.compress(TEXT),
        tarred({"./folder/corpus.txt": TEXT, "b.txt": OTHER}),
        tarred({"only.txt": TEXT}, "w:gz"),
        TEXT,
    ],
    ids=["only member", "named member", "gzip", "tar", "tar.gz", "plain"],
)
def test_an_archive_without_a_hash_gives_the_file_in_it(data: bytes, tmp_path: Path) -> None:
    assert obtained(unpinned("corpus.txt", data, tmp_path), tmp_path) == {"corpus.txt": TEXT}


@pytest.mark.parametrize("name", ["all.zip", "all.tar.gz", "all.tgz"])
def test_an_archive_with_the_name_of_one_stays_packed(name: str, tmp_path: Path) -> None:
    data = zipped({"a": TEXT}) if name.endswith("zip") else tarred({"a": TEXT}, "w:gz")
    assert obtained(unpinned(name, data, tmp_path), tmp_path) == {name: data}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (zipped({"a.txt": TEXT, "b.txt": OTHER}), "got a zip archive with a.txt, b.txt; expected"),
        (tarred({"a.txt": TEXT, "b.txt": OTHER}), "got a tar archive with a.txt, b.txt; expected"),
        (zipped({}), "got a zip archive with no file; expected one file, or one called corpus"),
        (zipped({"x/corpus.txt": TEXT, "corpus.txt": TEXT}), "Set `name` to the name of one of"),
        (corrupt(), "cannot be unpacked (Bad CRC-32"),
    ],
)
def test_an_archive_without_the_file_is_refused(data: bytes, said: str, tmp_path: Path) -> None:
    assert said in refusal(unpinned("corpus.txt", data, tmp_path), tmp_path)


@pytest.mark.parametrize(
    "packed", [zipped({"a.txt": TEXT}), gzip.compress(TEXT)], ids=["zip", "gzip"]
)
def test_the_hash_of_an_archive_is_refused_where_a_text_is_expected(
    packed: bytes, tmp_path: Path
) -> None:
    source = unpinned("corpus.txt", packed, tmp_path)
    file = source["files"][0]
    file |= {"sha256": hashlib.sha256(packed).hexdigest(), "bytes": len(packed)}
    line = refusal(source, tmp_path)
    assert line.startswith("corpora.mine.source.files[0].sha256 (corpus.txt): got the hash of a ")
    (tmp_path / "out").rename(tmp_path / "before")
    file["name"] = "corpus.zip" if packed.startswith(b"PK") else "corpus.gz"
    assert obtained(source, tmp_path) == {file["name"]: packed}
