"""Archives that ask for endless work: refused in one line, at once."""

import gzip
import hashlib
import io
import os
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest

from pipeline.core.errors import UserError
from pipeline.corpora import labelled_archive
from pipeline.download import archives, bundle, tar_stream
from pipeline.download.wanted import Bundle, File

TEXT = b"the small cat sleeps\n" * 50
pytestmark = pytest.mark.timeout(60)


def wished(data: bytes) -> File:
    return File(
        name="a.txt", sha256=hashlib.sha256(data).hexdigest(), bytes=len(data), urls=("http://x/",)
    )


def take(data: bytes, file: File, folder: Path) -> archives.Extraction:
    """Take the file out of a container of these bytes; nothing is left behind."""
    (folder / "x").write_bytes(data)
    extraction = archives.extract(folder / "x", [file], folder)
    assert not (folder / ".candidate").exists()
    return extraction


# --- tars


def header(size: int, name: str = "x", kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def pax(fields: bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
    return header(len(fields), "pax", kind) + padded(fields)


def pax_field(key: bytes, value: bytes) -> bytes:
    length = len(key) + len(value) + 3
    while len(str(length)) + len(key) + len(value) + 3 != length:
        length = len(str(length)) + len(key) + len(value) + 3
    return b"%d %s=%s\n" % (length, key, value)


TARS: dict[str, bytes] = {
    "a member of 2^62 bytes": header(1 << 62) + b"x",
    "a member of 2^62 bytes, in its extended header": pax(pax_field(b"size", b"%d" % (1 << 62)))
    + header(0)
    + b"x",
    "a member that is longer than the archive": header(100_000_000) + b"x" * 2000,
    "a member of a negative size": header(-(1 << 40)) + b"x" * 2000,
    "an extended header of a negative size": header(-512, kind=tarfile.XHDTYPE) + bytes(2000),
    "an extended header of a terabyte": header(1 << 40, kind=tarfile.GNUTYPE_LONGNAME)
    + bytes(2000),
    "digits without end in an extended header": pax(b"1" * 1_000_000) + header(0),
    "a name of a megabyte": header(1_000_000, kind=tarfile.GNUTYPE_LONGNAME)
    + padded(b"n" * 1_000_000)
    + header(0),
    "headers without end": pax(pax_field(b"a", b"b")) * 100_000,
    "settings without end": b"".join(
        pax(b"".join(pax_field(b"k%d_%d" % (n, m), b"") for m in range(600)), tarfile.XGLTYPE)
        + header(0)
        for n in range(3)
    ),
    "a sparse file's map without end": pax(
        pax_field(b"GNU.sparse.major", b"1") + pax_field(b"GNU.sparse.minor", b"0")
    )
    + header(100_000_000)
    + b"9999999999\n"
    + b"0\n" * 1_000_000,
}


@pytest.mark.parametrize("packed", [False, True], ids=["tar", "tgz"])
@pytest.mark.parametrize("name", TARS)
def test_a_tar_that_asks_for_endless_work_is_refused(
    name: str, packed: bool, tmp_path: Path
) -> None:
    first = header(5, "first") + padded(b"first")
    data = first + TARS[name]
    extraction = take(gzip.compress(data, 1) if packed else data, wished(TEXT), tmp_path)
    assert not extraction.extracted
    assert extraction.problem.startswith("cannot be unpacked (")
    assert len(extraction.problem) < 300


def test_oversized_member_after_the_wanted_file_is_harmless(tmp_path: Path) -> None:
    data = header(len(TEXT)) + padded(TEXT) + header(1 << 62)
    assert take(data, wished(TEXT), tmp_path).extracted


def test_tar_bomb_is_refused_by_compression_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tar_stream, "_MOST_EXTRA", 1 << 20)
    bomb = (
        header(50_000_000) + bytes(50_000_000 // 512 * 512 + 512) + header(len(TEXT)) + padded(TEXT)
    )
    extraction = take(gzip.compress(bomb), wished(TEXT), tmp_path)
    assert not extraction.extracted
    assert "bytes unpacked" in extraction.problem


def test_a_bundle_and_a_labelled_archive_are_bounded_too(tmp_path: Path) -> None:
    path = tmp_path / "x.tgz"
    path.write_bytes(gzip.compress(header(1 << 62, "other/x") + b"x"))
    described = Bundle(
        name="b.tar.gz", folders=("d",), sha256="0" * 64, bytes=5, urls=("http://x/",)
    )
    assert (
        "a member that claims 4611686018427387904"
        in bundle.extract(path, described, tmp_path).problem
    )
    config = labelled_archive.Config(archive="x.tgz", folders={"all": {"neg": ("d",)}})
    with pytest.raises(UserError, match="a member that claims 4611686018427387904"):
        list(labelled_archive.read(tmp_path, config))


# --- zips


def entry(
    offset: int, packed: bytes, size: int, name: bytes, claimed: int | None = None
) -> tuple[bytes, bytes]:
    """A zip's local header and its line in the list of members."""
    length = len(packed) if claimed is None else claimed
    crc = zlib.crc32(zlib.decompress(packed, -15)) if packed else 0
    fields = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 33, crc, length, size, len(name), 0)
    local = b"PK\x03\x04" + fields + name
    return local, b"PK\x01\x02" + struct.pack("<H", 20) + fields + struct.pack(
        "<HHHII", 0, 0, 0, 0, offset
    ) + name


def zipped(body: bytes, directory: bytes, members: int) -> bytes:
    end = b"PK\x05\x06" + struct.pack(
        "<HHHHIIH", 0, 0, members, members, len(directory), len(body), 0
    )
    return body + directory + end


def deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


def overlapping(members: int, size: int) -> bytes:
    """Members that all are the same bytes of the file."""
    packed = deflated(bytes(size))
    local, line = entry(0, packed, size, b"x")
    return zipped(local + packed, line * members, members)


@pytest.fixture
def unpacked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes of each stream that is unpacked."""
    sizes: list[int] = []
    original = archives._copy

    def copy(*arguments: object) -> tuple[int, str]:
        size, digest = original(*arguments)  # type: ignore[arg-type]
        sizes.append(size)
        return size, digest

    monkeypatch.setattr(archives, "_copy", copy)
    return sizes


def test_overlapping_members_are_unpacked_no_further_than_the_file_is_long(
    tmp_path: Path, unpacked: list[int]
) -> None:
    data = overlapping(20_000, 1_000_000)
    extraction = take(data, wished(b"x" * 1_000_000), tmp_path)
    assert not extraction.extracted
    assert "bytes unpacked of members that are not wanted" in extraction.problem
    assert sum(unpacked) < 50_000_000


def test_stored_members_that_overlap_are_refused(
    tmp_path: Path, unpacked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "_MOST_EXTRA", 1000)
    monkeypatch.setattr(archives, "_MOST_FACTOR", 1000)
    body = os.urandom(100_000)
    fields = struct.pack(
        "<HHHHHIIIHH", 20, 0, 0, 0, 33, zlib.crc32(body), len(body), len(body), 1, 0
    )
    line = (
        b"PK\x01\x02" + struct.pack("<H", 20) + fields + struct.pack("<HHHII", 0, 0, 0, 0, 0) + b"x"
    )
    extraction = take(
        zipped(b"PK\x03\x04" + fields + b"x" + body, line * 500, 500),
        wished(b"x" * 100_000),
        tmp_path,
    )
    assert "members that overlap" in extraction.problem
    assert len(unpacked) < 10


def test_a_small_zip_of_many_large_members_is_refused(tmp_path: Path, unpacked: list[int]) -> None:
    packed = deflated(bytes(2_000_000))
    body, directory = b"", b""
    for n in range(100):  # 200 KB that unpack to 200 MB
        local, line = entry(len(body), packed, 2_000_000, b"%02d" % n)
        body, directory = body + local + packed, directory + line
    extraction = take(zipped(body, directory, 100), wished(b"x" * 2_000_000), tmp_path)
    assert not extraction.extracted
    assert "bytes unpacked of members that are not wanted" in extraction.problem
    assert sum(unpacked) < 50_000_000


def test_a_list_of_members_that_would_fill_the_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "_MOST_DIRECTORY", 100_000)
    local, line = entry(0, b"", 0, b"")
    data = zipped(local, line * 5000, 5000)
    assert "a list of members of 230000 bytes" in take(data, wished(TEXT), tmp_path).problem
    assert archives.zip_sizes(tmp_path / "x") == set()


@pytest.mark.parametrize("offset", [0xFFFFFFF0, 1 << 30])
def test_a_member_or_list_beyond_the_file_is_refused(offset: int, tmp_path: Path) -> None:
    packed = deflated(TEXT)
    local, line = entry(offset, packed, len(TEXT), b"x")
    assert take(zipped(local + packed, line, 1), wished(TEXT), tmp_path).explain(wished(TEXT))
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 1, 1, offset, offset, 0)
    assert take(local + packed + end, wished(TEXT), tmp_path).explain(wished(TEXT))


@pytest.mark.parametrize("claimed", [0, 10, 1 << 31])
def test_a_zip_that_lies_about_its_sizes_gives_the_right_bytes_or_a_reason(
    claimed: int, tmp_path: Path
) -> None:
    packed = deflated(TEXT)
    for size in (len(TEXT), 0, 0xFFFFFFFF):
        local, line = entry(0, packed, size, b"x", claimed)
        extraction = take(zipped(local + packed, line, 1), wished(TEXT), tmp_path)
        if extraction.extracted:
            assert (tmp_path / "a.txt").read_bytes() == TEXT
            (tmp_path / "a.txt").unlink()
        else:
            assert extraction.explain(wished(TEXT))


def test_an_archive_in_an_archive_is_not_unpacked(tmp_path: Path, unpacked: list[int]) -> None:
    data = TEXT
    for _ in range(5):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("x", data)
        data = buffer.getvalue()
    assert not take(data, wished(TEXT), tmp_path).extracted
    assert unpacked == []


def test_many_members_of_one_size_are_looked_through(tmp_path: Path) -> None:
    """The bounds are for bombs: an honest archive of files of equal size passes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for n in range(300):
            archive.writestr(f"{n}", b"%04d" % n + os.urandom(500))
        archive.writestr("last", b"last" + bytes(500))
    assert take(buffer.getvalue(), wished(b"last" + bytes(500)), tmp_path).extracted
