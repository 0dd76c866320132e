"""`source: {bundle: ...}`: any archive with the right files in its folders does, any other is
refused, and one comes out."""

import gzip
import hashlib
import io
import json
import subprocess
import tarfile
from pathlib import Path

import pytest

from pipeline.core.errors import UserError
from pipeline.download import bundle
from pipeline.download.fetch import RetryPolicy
from pipeline.download.source import DownloadSettings, obtain
from pipeline.download.wanted import Bundle

TEXTS = {
    f"d/{label}/{n}.txt": f"{label} {n}\n".encode() * (n + 1)
    for label in ("neg", "pos")
    for n in range(12)
}
QUICK = RetryPolicy(connect=1.0, silence=0.5, attempts=1, pause=0.01)


def packed(
    path: Path, files: dict[str, bytes], mode: str = "w:gz", before: str = "", mtime: int = 0
) -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            info = tarfile.TarInfo(before + name)
            info.size, info.mtime = len(data), mtime
            archive.addfile(info, io.BytesIO(data))
    return path


def listing(files: dict[str, bytes]) -> str:
    """As `sha256sum` prints it."""
    return "".join(f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files))


def block(*urls: str, files: dict[str, bytes] = TEXTS) -> dict[str, object]:
    return {
        "name": "reviews.tar.gz",
        "folders": ["d/neg", "d/pos"],
        "sha256": hashlib.sha256(listing(files).encode()).hexdigest(),
        "bytes": sum(map(len, files.values())),
        "urls": list(urls or ["http://127.0.0.1:9/original.tar.gz"]),
    }


def get(folder: Path, wanted: dict[str, object], mirrored: Path | str = "") -> Path:
    into = folder / "out"
    into.mkdir()
    obtain(
        "mine", {"bundle": wanted}, into, DownloadSettings(str(mirrored), folder / "work", QUICK)
    )
    return into


VARIANTS = {
    "as it is": lambda path: packed(path, TEXTS),
    "in another order, with dates": lambda path: packed(
        path, dict(reversed(TEXTS.items())), mtime=1_300_000_000
    ),
    "with more than is asked for": lambda path: packed(
        path,
        {"d/README": b"read", "d/unsup/0.txt": b"x" * 10_000, **TEXTS, "d/pos/deeper/0.txt": b"x"},
    ),
    "under ./ and not compressed": lambda path: packed(path, TEXTS, mode="w", before="./"),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_any_archive_of_the_right_files_gives_the_same_bytes(name: str, tmp_path: Path) -> None:
    store = tmp_path / "mirror"
    store.mkdir()
    VARIANTS[name](store / "anything")
    out = get(tmp_path, block(), store)
    with tarfile.open(out / "reviews.tar.gz") as archive:
        assert {m.name: archive.extractfile(m).read() for m in archive} == TEXTS  # type: ignore[union-attr]
        assert [m.name for m in archive] == sorted(TEXTS)
        assert {m.mtime for m in archive} == {0}
    assert sorted(file.name for file in out.iterdir()) == ["manifest.json", "reviews.tar.gz"]
    [told] = json.loads((out / "manifest.json").read_text())["files"]
    assert told["source"] == "http://127.0.0.1:9/original.tar.gz"
    again = tmp_path / "again"
    again.mkdir()
    bundle.extract(
        packed(tmp_path / "plain", TEXTS),
        Bundle(**block() | {"folders": ("d/neg", "d/pos")}),
        again,
    )  # type: ignore[arg-type]
    assert (again / "reviews.tar.gz").read_bytes() == (out / "reviews.tar.gz").read_bytes()


def test_hash_matches_sha256sum(tmp_path: Path) -> None:
    for name, data in TEXTS.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    command = ["sha256sum", *sorted(TEXTS)]
    printed = subprocess.run(
        command, cwd=tmp_path, capture_output=True, check=True, env={"PATH": "/usr/bin:/bin"}
    ).stdout
    assert hashlib.sha256(printed).hexdigest() == block()["sha256"]


def test_an_address_may_serve_it(tmp_path: Path) -> None:
    path = packed(tmp_path / "x.tgz", TEXTS)
    assert (get(tmp_path, block(f"file://{path}")) / "reviews.tar.gz").exists()


first = next(iter(TEXTS))
WRONG = {
    "a changed text": (TEXTS | {first: TEXTS[first][::-1]}, "sha256 "),
    "two texts exchanged": (dict(zip(TEXTS, [*TEXTS.values()][::-1], strict=True)), "sha256 "),
    "a missing text": (
        {name: data for name, data in TEXTS.items() if name != first},
        "bytes in its folders d/neg, d/pos",
    ),
    "one more text": (TEXTS | {"d/pos/x.txt": b"x"}, "more than "),
    "another name": (
        {"d/neg/z.txt" if name == first else name: data for name, data in TEXTS.items()},
        "sha256 ",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_archive_of_other_files_is_refused_and_nothing_is_left(
    name: str, tmp_path: Path
) -> None:
    files, told = WRONG[name]
    path = packed(tmp_path / "x.tgz", files)
    with pytest.raises(UserError) as refused:
        get(tmp_path, block(f"file://{path}"))
    assert str(refused.value).startswith("corpora.mine.source.bundle (reviews.tar.gz): got file:")
    assert told in str(refused.value)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    "data", [b"no archive", gzip.compress(b"no tar"), b""], ids=["text", "gzip", "nothing"]
)
def test_non_tar_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(UserError, match="and no tar"):
        get(tmp_path, block(f"file://{tmp_path / 'x'}"))


def test_a_name_that_comes_twice_and_a_torn_archive_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.tgz"
    with tarfile.open(path, "w:gz") as archive:
        for _ in range(2):
            archive.addfile(tarfile.TarInfo("d/neg/0.txt"))
    wanted = Bundle(**block() | {"folders": ("d/neg", "d/pos")})  # type: ignore[arg-type]
    assert "two members called d/neg/0.txt" in bundle.extract(path, wanted, tmp_path).problem
    whole = packed(path, TEXTS).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "cannot be unpacked" in bundle.extract(path, wanted, tmp_path).problem


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"folders": []}, "folders"),
        ({"name": "../x"}, "name"),
        ({"sha256": "0"}, "sha256"),
        ({"urls": []}, "urls"),
    ],
)
def test_a_bundle_that_cannot_be_is_refused_by_its_key(
    changes: dict[str, object], key: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=rf"^corpora\.mine\.source\.bundle\.{key}: got"):
        get(tmp_path, block() | changes)
