"""The download stage against a real loopback server: resuming, verifying, archives that lie,
mirrors, and its messages."""

import errno
import gzip
import hashlib
import io
import json
import os
import random
import resource
import shlex
import signal
import stat
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.errors import UserError, describe_error, exit_with, printable, redact, refuse
from pipeline.download import archives, fetch, mirror
from pipeline.download.budget import SHIPPED, Account, Budget
from pipeline.download.failures import DownloadError
from pipeline.download.fetch import Fetcher, Limits, RetryPolicy
from pipeline.download.progress import progress
from pipeline.download.source import DownloadSettings, obtain
from pipeline.download.wanted import File, Listed

ROOT = Path(__file__).parents[2]
QUICK = RetryPolicy(connect=2.0, silence=0.5, attempts=3, pause=0.01)
LIMITS = Limits(plain=1 << 30, container=1 << 30)


def fetcher(work: Path, patience: RetryPolicy = QUICK, budget: Budget = SHIPPED) -> Fetcher:
    return Fetcher("mine", work, Account(budget, work, "mine"), patience)


def content(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


TEXT = content(300_000)


@dataclass
class Site:
    """What the server serves, how it misbehaves, and what it was asked."""

    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    tag: str | None = '"one"'
    modified: str | None = None
    pause: float = 0.0  # seconds after each 64 KiB
    # bytes after which each of the next bodies breaks off
    cut: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)  # of the next answers
    redirects: dict[str, str] = field(default_factory=dict)
    # path, Range, If-Range
    asked: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    served: int = 0
    url: str = ""


class Handler(BaseHTTPRequestHandler):
    site: Site

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        site, asked = self.site, self.headers.get("Range")
        site.asked.append((self.path, asked, self.headers.get("If-Range")))
        if site.statuses:
            self.empty(site.statuses.pop(0), {"Retry-After": "0"})
            return
        if self.path in site.redirects:
            self.empty(302, {"Location": site.redirects[self.path]})
            return
        if self.path not in site.files:
            self.empty(404, {})
            return
        if self.unchanged():
            self.empty(304, {})
            return
        whole, start = site.files[self.path], 0
        if asked and site.ranges and self.headers.get("If-Range", site.tag) == site.tag:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(whole):
                self.empty(416, {"Content-Range": f"bytes */{len(whole)}"})
                return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(whole) - 1}/{len(whole)}")
        if site.tag:
            self.send_header("ETag", site.tag)
        if site.modified:
            self.send_header("Last-Modified", site.modified)
        self.send_header("Content-Length", str(len(whole) - start))
        self.end_headers()
        self.body(whole[start:])

    def unchanged(self) -> bool:
        """Whether the request's conditions say that the client has this very version (RFC 9110,
        section 13.2.2)."""
        if tag := self.headers.get("If-None-Match"):
            return tag == self.site.tag
        return (
            self.site.modified is not None
            and self.headers.get("If-Modified-Since") == self.site.modified
        )

    def empty(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": "0"}.items():
            self.send_header(name, value)
        self.end_headers()

    def body(self, data: bytes) -> None:
        cut = self.site.cut.pop(0) if self.site.cut else len(data)
        for start in range(0, min(cut, len(data)), 1 << 16):
            chunk = data[start : min(start + (1 << 16), cut)]
            try:
                self.wfile.write(chunk)
            except OSError:
                return
            self.site.served += len(chunk)
            time.sleep(self.site.pause)
        self.close_connection = True


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    made = Site()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"site": made}))
    made.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    server.shutdown()
    server.server_close()
    thread.join()


@dataclass
class Desk:
    """A temporary project: fetches files into `out`, with a work folder that stays from call to
    call."""

    folder: Path

    def get(self, *files: dict[str, object], mirrored: str = "", out: str = "out") -> Path:
        into = self.folder / out
        into.mkdir(exist_ok=True)
        around = DownloadSettings(mirrored, self.folder / "work", QUICK)
        obtain("mine", {"files": list(files)}, into, around)
        return into

    def refusal(self, *files: dict[str, object], mirrored: str = "") -> str:
        with pytest.raises(UserError) as caught:
            self.get(*files, mirrored=mirrored)
        told = str(caught.value)
        assert "\n" not in told
        assert told.startswith("corpora.mine.source")
        return told


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def item(data: bytes, *urls: str, name: str = "a.txt") -> dict[str, object]:
    return {
        "name": name,
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        "urls": list(urls),
    }


def wished(data: bytes, name: str = "a.txt") -> File:
    return File(
        name=name, sha256=hashlib.sha256(data).hexdigest(), bytes=len(data), urls=("http://x/",)
    )


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def tarred(*members: tuple[tarfile.TarInfo, bytes], mode: str = "w:gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for info, data in members:
            info.size = len(data) or info.size
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def held(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


# --- transfers


def test_plain_file_has_manifest_with_hash_and_canonical_address(site: Site, desk: Desk) -> None:
    site.files["/a.txt"] = TEXT
    out = desk.get(item(TEXT, f"{site.url}/gone.txt", f"{site.url}/a.txt"))
    assert (out / "a.txt").read_bytes() == TEXT
    assert json.loads((out / "manifest.json").read_text()) == {
        "files": [
            {
                "name": "a.txt",
                "bytes": len(TEXT),
                "sha256": hashlib.sha256(TEXT).hexdigest(),
                "source": f"{site.url}/gone.txt",
            }
        ]
    }


def test_a_dead_first_address_is_followed_by_the_second(site: Site, desk: Desk) -> None:
    site.files["/a.txt"] = TEXT
    out = desk.get(item(TEXT, "http://127.0.0.1:9/a.txt", f"{site.url}/a.txt"))
    assert (out / "a.txt").read_bytes() == TEXT


@pytest.mark.parametrize("tag", ['"one"', 'W/"weak"', None])
def test_a_body_that_breaks_off_is_resumed_where_it_stopped(
    site: Site, desk: Desk, tag: str | None
) -> None:
    site.files["/a.txt"], site.cut, site.tag = TEXT, [200_000], tag
    out = desk.get(item(TEXT, f"{site.url}/a.txt"))
    assert (out / "a.txt").read_bytes() == TEXT
    assert [asked is not None for _, asked, _ in site.asked] == [False, True]
    assert site.asked[1][2] == ('"one"' if tag == '"one"' else None)
    assert site.served < 2 * len(TEXT)


def test_a_server_without_ranges_serves_it_all_again(site: Site, desk: Desk) -> None:
    site.files["/a.txt"], site.cut, site.ranges = TEXT, [200_000], False
    assert (desk.get(item(TEXT, f"{site.url}/a.txt")) / "a.txt").read_bytes() == TEXT


def test_a_file_that_changed_between_two_attempts_is_fetched_from_its_start(
    site: Site, tmp_path: Path
) -> None:
    old, new = content(300_000, 1), content(300_000, 2)
    site.files["/a"], site.cut = old, [200_000, 200_000, 200_000]
    with pytest.raises(DownloadError):
        fetcher(tmp_path, RetryPolicy(1, 1, 1, 0)).fetch(f"{site.url}/a", LIMITS)
    site.files["/a"], site.tag, site.cut = new, '"two"', []
    path, fresh = fetcher(tmp_path).fetch(f"{site.url}/a", LIMITS)
    assert path.read_bytes() == new
    assert not fresh


def test_a_file_that_shrank_meanwhile_answers_416_and_is_fetched_anew(
    site: Site, tmp_path: Path
) -> None:
    site.files["/a"], site.cut, site.tag = content(300_000, 1), [200_000], None
    with pytest.raises(DownloadError):
        fetcher(tmp_path, RetryPolicy(1, 1, 1, 0)).fetch(f"{site.url}/a", LIMITS)
    site.files["/a"] = content(1000, 2)
    path, _ = fetcher(tmp_path).fetch(f"{site.url}/a", LIMITS)
    assert path.read_bytes() == site.files["/a"]


def test_complete_bytes_are_not_requested_again_after_a_kill(site: Site, tmp_path: Path) -> None:
    site.files["/a"] = TEXT
    fetching = fetcher(tmp_path)
    target, _ = fetching.fetch(f"{site.url}/a", LIMITS)
    # killed before the renaming, its note lost: the server answers 416
    target.rename(target.with_suffix(".part"))
    assert fetching.fetch(f"{site.url}/a", LIMITS)[0].read_bytes() == TEXT
    assert site.served == len(TEXT)


def test_two_halves_of_different_versions_are_noticed_and_fetched_again(
    site: Site, desk: Desk
) -> None:
    wrong = content(300_000, 5)
    # no validator: nothing tells the versions apart
    site.files["/a.txt"], site.cut, site.tag = wrong, [200_000, 0, 0], None
    desk.refusal(item(TEXT, f"{site.url}/a.txt"))
    site.files["/a.txt"], site.cut = TEXT, []
    assert (desk.get(item(TEXT, f"{site.url}/a.txt")) / "a.txt").read_bytes() == TEXT


def test_errors_that_pass_are_waited_out(site: Site, desk: Desk) -> None:
    site.files["/a.txt"], site.statuses = TEXT, [503, 429]
    assert (desk.get(item(TEXT, f"{site.url}/a.txt")) / "a.txt").read_bytes() == TEXT


def test_permanent_errors_are_reported_and_only_transient_retried(site: Site, desk: Desk) -> None:
    site.statuses = [503, 503, 503, 403]
    told = desk.refusal(item(TEXT, f"{site.url}/a.txt", f"{site.url}/b.txt"))
    assert f"{site.url}/a.txt: 503 Service Unavailable, 3 times" in told
    assert f"{site.url}/b.txt: 403 Forbidden" in told
    assert told.endswith("Put a right copy in a folder and set SEQLINE_MIRROR to it.")
    assert len(site.asked) == 4


def test_a_silent_server_is_left_after_its_time(site: Site, desk: Desk) -> None:
    site.files["/a.txt"], site.pause = TEXT, 1.0
    assert "silent for 0.5 s" in desk.refusal(item(TEXT, f"{site.url}/a.txt"))


def test_redirects_are_followed_but_not_for_ever_and_not_to_files(site: Site, desk: Desk) -> None:
    site.files["/a.txt"] = TEXT
    site.redirects = {"/here": "/a.txt", "/loop": "/loop", "/local": f"file://{ROOT}/params.yaml"}
    assert (desk.get(item(TEXT, f"{site.url}/here")) / "a.txt").read_bytes() == TEXT
    told = desk.refusal(item(TEXT[:-1], f"{site.url}/loop", f"{site.url}/local"))
    assert "/loop: over 5 redirects" in told
    assert "/local: redirects to an address that begins with file:" in told


def test_wrong_bytes_are_refused_with_both_hashes_and_fetched_again_next_time(
    site: Site, desk: Desk
) -> None:
    wrong = content(len(TEXT), 9)
    site.files["/a.txt"] = wrong
    told = desk.refusal(item(TEXT, f"{site.url}/a.txt"))
    assert told.startswith(f"corpora.mine.source.files[0] (a.txt): got {site.url}/a.txt: sha256 ")
    assert hashlib.sha256(wrong).hexdigest() in told
    assert hashlib.sha256(TEXT).hexdigest() in told
    site.files["/a.txt"] = TEXT
    assert (desk.get(item(TEXT, f"{site.url}/a.txt")) / "a.txt").read_bytes() == TEXT


def test_a_plain_file_larger_than_wanted_is_not_read_to_its_end(site: Site, desk: Desk) -> None:
    site.files["/a.txt"], site.pause = b"x" * 20_000_000, 0.001
    assert "/a.txt: over 1000 bytes" in desk.refusal(item(TEXT[:1000], f"{site.url}/a.txt"))
    assert site.served < 10_000_000
    assert not [path for path in (desk.folder / "work").iterdir() if path.suffix != ".lock"]


def test_a_container_beyond_the_limit_is_not_read_at_all(site: Site, tmp_path: Path) -> None:
    site.files["/a.zip"] = zipped(a=TEXT)
    with pytest.raises(DownloadError, match="over the 1000 that are allowed"):
        fetcher(tmp_path).fetch(f"{site.url}/a.zip", Limits(plain=10, container=1000))


def test_secrets_in_an_address_do_not_reach_a_message(desk: Desk) -> None:
    mirrored, secret = (
        "http://me:SECRET@127.0.0.1:9/m?key=SECRET",
        "http://127.0.0.1:9/a?token=SECRET",
    )
    assert "SECRET" not in desk.refusal(item(TEXT, secret), mirrored=mirrored)
    for url in (
        "ftp://me:SECRET@127.0.0.1/a",
        "http://me:SECRET@127.0.0.1/a b",
        "http://me:SECRET@",
    ):
        assert "SECRET" not in desk.refusal(item(TEXT, url))
    with pytest.raises(
        UserError, match=r"^SEQLINE_MIRROR: got ftp://127\.0\.0\.1/m; expected a folder"
    ):
        desk.get(item(TEXT, secret), mirrored="ftp://me:SECRET@127.0.0.1/m")


def test_addresses_are_shown_without_secrets() -> None:
    for address, safe in {
        "http://host:8080/a@b": "http://host:8080/a@b",
        "https://me:p@ss@host/a?key=SECRET#x": "https://host/a",
        "postgresql://me:pa/ss@host:5432/db?password=SECRET": "postgresql://host:5432/db",
        "postgresql://me:pa?ss@host/db": "postgresql://host/db",
        "sqlite:////folder/me@work/mlflow.db": "sqlite:////folder/me@work/mlflow.db",
        "/a/folder?of mine": "/a/folder?of mine",
    }.items():
        assert redact(address) == safe
        assert describe_error(ValueError(f"no answer\n from '{address}'")).startswith(
            f"no answer from '{safe}"[:-1]
        )


def test_a_message_never_steers_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "a\x1b]0;title\x07\x1b[2Jb\rc\nd\x9be\u202ef\udcffg\u2028h"
    safe = r"a\x1b]0;title\x07\x1b[2Jb\rc\nd\x9be\u202ef\udcffg\u2028h"
    assert str(refuse("key", hostile, "text")) == f"key: got {safe}; expected text."
    assert str(UserError(hostile)) == safe
    assert describe_error(ValueError(hostile.replace("\n", " "))).startswith(
        r"a\x1b]0;title\x07\x1b[2Jb c d\x9be\u202ef"
    )
    readable = "Привет, 世界, می\u200cخواهم, e\u0301, 👩\u200d🚀"
    assert printable(readable) == readable

    def fail() -> None:
        raise PermissionError(errno.EACCES, "no", "\x1b[2J")

    with pytest.raises(SystemExit):
        exit_with(fail)
    assert capsys.readouterr().err.startswith(r"seqline: \x1b[2J: got no permission")


# --- files that are not pinned


def loose(*urls: str, name: str = "a.txt") -> dict[str, object]:
    return {"name": name, "sha256": None, "bytes": None, "urls": list(urls)}


def date(day: int) -> str:
    return f"Tue, {day:02} Nov 2026 03:00:00 GMT"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"tag": '"one"'}, {"tag": '"two"'}),
        ({"tag": 'W/"weak"'}, {"tag": 'W/"other"'}),
        ({"tag": None, "modified": date(3)}, {"tag": None, "modified": date(10)}),
        ({"tag": '"one"', "modified": date(3)}, {"tag": '"two"', "modified": date(3)}),
    ],
)
def test_unpinned_file_is_downloaded_only_if_changed_on_the_server(
    before: dict[str, str], after: dict[str, str], site: Site, desk: Desk
) -> None:
    site.files["/a.txt"] = TEXT
    for name, value in before.items():
        setattr(site, name, value)
    assert (desk.get(loose(f"{site.url}/a.txt")) / "a.txt").read_bytes() == TEXT
    assert (desk.get(loose(f"{site.url}/a.txt")) / "a.txt").read_bytes() == TEXT
    assert (len(site.asked), site.served) == (2, len(TEXT))
    site.files["/a.txt"] = TEXT[1:]
    for name, value in after.items():
        setattr(site, name, value)
    assert (desk.get(loose(f"{site.url}/a.txt")) / "a.txt").read_bytes() == TEXT[1:]
    assert (desk.get(loose(f"{site.url}/a.txt")) / "a.txt").read_bytes() == TEXT[1:]
    assert site.served == 2 * len(TEXT) - 1


def test_a_server_that_names_no_versions_sends_the_file_each_time(site: Site, desk: Desk) -> None:
    site.files["/a.txt"], site.tag = TEXT, None
    desk.get(loose(f"{site.url}/a.txt"))
    site.files["/a.txt"] = TEXT[1:]
    assert (desk.get(loose(f"{site.url}/a.txt")) / "a.txt").read_bytes() == TEXT[1:]


@pytest.mark.parametrize("tag", ['"one"', None])
def test_two_versions_of_a_file_that_is_not_pinned_are_never_mixed(
    tag: str | None, site: Site, desk: Desk
) -> None:
    site.files["/a.txt"], site.tag, site.cut = content(300_000, 1), tag, [200_000, 0, 0]
    desk.refusal(loose(f"{site.url}/a.txt"))
    site.files["/a.txt"], site.tag, site.cut = content(300_000, 2), tag and '"two"', []
    assert (desk.get(loose(f"{site.url}/a.txt")) / "a.txt").read_bytes() == content(300_000, 2)


def test_existing_file_is_kept_when_the_server_fails(
    site: Site, desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    site.files["/a.txt"] = TEXT
    desk.get(loose(f"{site.url}/a.txt"))
    capsys.readouterr()
    site.tag = '"two"'
    for files, statuses in (({}, []), ({"/a.txt": b""}, []), ({"/a.txt": TEXT[1:]}, [503] * 3)):
        site.files, site.statuses = files, statuses
        assert (desk.get(loose(f"{site.url}/a.txt")) / "a.txt").read_bytes() == TEXT
        told = [
            line for line in capsys.readouterr().err.splitlines() if line.startswith("seqline: ")
        ]
        assert len(told) == 1
        assert told[0].startswith(
            f"seqline: corpora.mine.source.files[0] (a.txt): got {site.url}/a.txt: "
        )
        assert told[0].endswith("; the existing copy is kept")


def test_missing_file_is_refused_by_its_index_among_pinned_ones(site: Site, desk: Desk) -> None:
    site.files["/a.txt"] = TEXT
    told = desk.refusal(item(TEXT, f"{site.url}/a.txt"), loose(f"{site.url}/b.txt", name="b.txt"))
    assert told.startswith("corpora.mine.source.files[1] (b.txt): got ")
    assert "404 Not Found" in told
    told = desk.refusal(
        loose(f"{site.url}/a.txt"), item(TEXT[1:], f"{site.url}/a.txt", name="b.txt")
    )
    assert told.startswith("corpora.mine.source.files[1] (b.txt): got ")


def test_first_responding_address_is_used_and_no_mirror_is_contacted(
    site: Site, desk: Desk, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_bytes(TEXT[2:])
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "a.txt").write_bytes(TEXT[1:])
    local = (tmp_path / "a.txt").as_uri()
    out = desk.get(loose("http://127.0.0.1:9/a.txt", local), mirrored=str(tmp_path / "mirror"))
    assert (out / "a.txt").read_bytes() == TEXT[2:]
    found = json.loads((out / "manifest.json").read_text())["files"]
    assert [file["sha256"] for file in found] == [hashlib.sha256(TEXT[2:]).hexdigest()]


# --- killing the command


def command(out: Path, params: Path, work: Path) -> list[str]:
    """The command of dvc.yaml, for the corpus `mine`, with temporary places."""
    line = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["download"]["do"]["cmd"]
    line = line.replace("data/raw/{corpus}", str(out)).replace("params.yaml", str(params))
    return [sys.executable, *shlex.split(line)[1:], "--work", str(work)]


def run(
    tmp_path: Path, source: object, mirrored: str = "", wait: bool = True
) -> subprocess.Popen[str]:
    block = {
        "format": "text_lines",
        "source": source,
        "read": {},
        "limit": None,
        "split": "official",
    }
    corpus = {**block, "text": {}, "vocab": {}, "samples": []}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"corpora": {"mine": corpus}}))
    started = subprocess.Popen(
        command(tmp_path / "raw" / "mine", tmp_path / "params.yaml", tmp_path / "work"),
        cwd=ROOT,
        env={
            **os.environ,
            "DVC_STAGE": "download@mine",
            "SEQLINE_MIRROR": mirrored,
            "NO_PROXY": "127.0.0.1",
        },
        stderr=subprocess.PIPE,
        text=True,
    )
    if wait:
        started.wait(600)
    return started


def test_killed_download_resumes_and_gives_the_same_bytes(site: Site, tmp_path: Path) -> None:
    data = zipped(inside=content(4_000_000))
    site.files["/a.zip"], site.pause = data, 0.02
    source = {"files": [item(content(4_000_000), f"{site.url}/a.zip")]}
    for kills in range(1, 3):
        process = run(tmp_path, source, wait=False)
        while (
            sum(path.stat().st_size for path in (tmp_path / "work").glob("*.part"))
            < kills * 1_000_000
        ):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (tmp_path / "raw" / "mine").exists()
    site.pause = 0.0
    assert run(tmp_path, source).returncode == 0
    assert (tmp_path / "raw" / "mine" / "a.txt").read_bytes() == content(4_000_000)
    ranges = [asked for _, asked, _ in site.asked]
    assert ranges[0] is None
    assert all(int(asked[6:-1]) >= 1_000_000 for asked in ranges[1:] if asked)
    assert None not in ranges[1:]
    assert site.served < 2 * len(data)


@pytest.mark.parametrize(
    ("served", "said"),
    [
        (None, "404 Not Found"),
        (TEXT[:-10], f"{len(TEXT) - 10} bytes; expected {len(TEXT)} bytes of"),
    ],
)
def test_the_command_tells_a_failure_in_one_line_and_leaves_nothing(
    served: bytes | None, said: str, site: Site, tmp_path: Path
) -> None:
    site.files |= {"/a.txt": served} if served is not None else {}
    process = run(tmp_path, {"files": [item(TEXT, f"{site.url}/a.txt")]})
    assert process.stderr is not None
    lines = process.stderr.read().splitlines()
    assert process.returncode == 2
    assert len([line for line in lines if line.startswith("seqline: ")]) == 1
    assert lines[-1].startswith(
        f"seqline: corpora.mine.source.files[0] (a.txt): got {site.url}/a.txt: {said}"
    )
    assert [path.name for path in (tmp_path / "raw").iterdir()] == [".mine.lock"]


@pytest.mark.parametrize("room", [200_000, len(TEXT) - 10])
def test_full_disk_during_download_is_reported_and_recorded_correctly(
    room: int, site: Site, desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last write finds room for a part of its bytes, and that is all that it says."""
    site.files["/a.txt"] = TEXT
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        with pytest.raises(SystemExit) as end:
            exit_with(lambda: desk.get(item(TEXT, f"{site.url}/a.txt")))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    [part] = (desk.folder / "work").glob("*.part")
    assert (end.value.code, part.read_bytes()) == (2, TEXT[:room])
    assert (
        capsys.readouterr()
        .err.splitlines()[-1]
        .startswith(f"seqline: {part}: got a file beyond the size allowed; ")
    )
    assert held(desk.folder / "out") == set()
    assert (desk.get(item(TEXT, f"{site.url}/a.txt")) / "a.txt").read_bytes() == TEXT
    assert site.asked[-1][1] == f"bytes={room}-"


def test_unwritable_destination_is_reported_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "x").write_text("x")
    (tmp_path / "raw").write_text("a file in the way")
    process = run(tmp_path, {"path": str(tmp_path / "own")})
    assert process.stderr is not None
    lines = process.stderr.read().splitlines()
    assert process.returncode == 2
    assert lines == [
        f"seqline: {tmp_path}/raw: got a file where a folder is needed; expected a folder. "
        "Move the file away or name another place."
    ]


def test_mirror_from_environment_is_tried_first_with_same_bytes(site: Site, tmp_path: Path) -> None:
    site.files["/a.gz"] = gzip.compress(TEXT)
    source = {"files": [item(TEXT, f"{site.url}/a.gz")]}
    assert run(tmp_path, source).returncode == 0
    out = tmp_path / "raw" / "mine"
    before = {name: (out / name).read_bytes() for name in held(out)}
    asked = len(site.asked)
    (tmp_path / "mirror" / "deep").mkdir(parents=True)
    (tmp_path / "mirror" / "deep" / "other name").write_bytes(TEXT)
    assert run(tmp_path, source, mirrored=str(tmp_path / "mirror")).returncode == 0
    assert {name: (out / name).read_bytes() for name in held(out)} == before
    assert len(site.asked) == asked


# --- containers


@pytest.mark.parametrize("ending", ["zip", "tar", "tgz", "gz", "members"])
def test_the_same_file_comes_out_of_any_container(ending: str, site: Site, desk: Desk) -> None:
    info = tarfile.TarInfo("some/folder/name")
    made = {
        "zip": zipped(readme=b"hello", **{"other/path": TEXT}),
        "tar": tarred((tarfile.TarInfo("readme"), b"hello"), (info, TEXT), mode="w"),
        "tgz": tarred((tarfile.TarInfo("readme"), b"hello"), (info, TEXT)),
        "gz": gzip.compress(TEXT),
        "members": gzip.compress(TEXT[:1000]) + gzip.compress(TEXT[1000:]),  # a gzip in two parts
    }
    site.files["/x"] = made[ending]
    assert (desk.get(item(TEXT, f"{site.url}/x")) / "a.txt").read_bytes() == TEXT


def test_a_container_that_serves_several_files_is_fetched_once(site: Site, desk: Desk) -> None:
    site.files["/x.zip"] = zipped(one=TEXT, two=TEXT[1:], three=TEXT)
    url = f"{site.url}/x.zip"
    out = desk.get(
        item(TEXT, url, name="1"), item(TEXT[1:], url, name="2"), item(TEXT, url, name="3")
    )
    assert held(out) == {"1", "2", "3", "manifest.json"}
    assert len(site.asked) == 1
    desk.get(item(TEXT, url), out="another")
    assert len(site.asked) == 1


def test_two_corpora_that_want_one_address_at_once_fetch_it_once(site: Site, desk: Desk) -> None:
    site.files["/x.zip"], site.pause = zipped(one=TEXT), 0.05
    wanted = item(TEXT, f"{site.url}/x.zip")
    threads = [
        threading.Thread(target=desk.get, args=(wanted,), kwargs={"out": out})
        for out in ("one", "two")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (
        (desk.folder / "one" / "a.txt").read_bytes()
        == (desk.folder / "two" / "a.txt").read_bytes()
        == TEXT
    )
    assert len(site.asked) == 1


def test_an_archive_may_itself_be_the_wanted_file(site: Site, desk: Desk) -> None:
    data = zipped(one=TEXT)
    site.files["/x.zip"] = data
    assert (desk.get(item(data, f"{site.url}/x.zip", name="x.zip")) / "x.zip").read_bytes() == data


def test_members_with_hostile_paths_land_under_the_wanted_name_only(site: Site, desk: Desk) -> None:
    hostile = {"../../escape": TEXT, "/tmp/escape": content(100), "..\\escape": content(50)}
    site.files["/x.zip"] = zipped(**hostile)
    site.files["/x.tar"] = tarred(
        *((tarfile.TarInfo(name), data) for name, data in hostile.items()), mode="w"
    )
    for path in ("/x.zip", "/x.tar"):
        out = desk.get(item(TEXT, site.url + path), out=path[1:])
        assert held(out) == {"a.txt", "manifest.json"}
    assert not [path for path in desk.folder.rglob("*") if "escape" in path.name]


def test_links_and_devices_in_a_tar_are_never_followed(
    site: Site, desk: Desk, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_bytes(TEXT)
    members = []
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
        info = tarfile.TarInfo("a.txt")
        info.type, info.linkname, info.size = kind, str(tmp_path / "secret"), 0
        members.append((info, b""))
    site.files["/x.tgz"] = tarred(*members)
    assert "/x.tgz: nothing of 300000 bytes in it" in desk.refusal(item(TEXT, f"{site.url}/x.tgz"))


def test_a_link_in_a_zip_is_never_followed(site: Site, desk: Desk) -> None:
    buffer, target = io.BytesIO(), b"/etc/passwd"
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo("a.txt")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, target)
    site.files["/x.zip"] = buffer.getvalue()
    assert "nothing of 11 bytes in it" in desk.refusal(item(target, f"{site.url}/x.zip"))


def test_a_gzip_bomb_is_read_no_further_than_the_wanted_size(tmp_path: Path) -> None:
    bomb = gzip.compress(bytes(20_000_000))
    # its end is broken: who reads that far, stumbles
    (tmp_path / "bomb.gz").write_bytes(bomb[:-100])
    wanted = wished(b"x" * 1000)
    assert (
        archives.extract(tmp_path / "bomb.gz", [wanted], tmp_path).explain(wanted)
        == "nothing of 1000 bytes in it"
    )
    assert (
        "cannot be unpacked"
        in archives.extract(tmp_path / "bomb.gz", [wished(bytes(20_000_000))], tmp_path).problem
    )


def test_a_tar_bomb_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bomb.tgz").write_bytes(
        tarred((tarfile.TarInfo("x"), bytes(1_000_000)), (tarfile.TarInfo("y"), TEXT))
    )
    assert archives.extract(tmp_path / "bomb.tgz", [wished(TEXT)], tmp_path).extracted
    monkeypatch.setattr("pipeline.download.tar_stream._MOST_EXPANDED", 500_000)
    extraction = archives.extract(tmp_path / "bomb.tgz", [wished(TEXT)], tmp_path)
    assert not extraction.extracted
    assert "over 500000 bytes unpacked" in extraction.problem


def test_a_zip_that_lies_about_a_size_gives_no_more_than_it_declares(tmp_path: Path) -> None:
    data = bytearray(zipped(a=bytes(5_000_000)))
    for signature, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        here = data.find(signature)
        data[here + at : here + at + 4] = (1000).to_bytes(4, "little")
    (tmp_path / "lie.zip").write_bytes(data)
    extraction = archives.extract(tmp_path / "lie.zip", [wished(bytes(1000))], tmp_path)
    assert sum(size for size, _ in extraction.mismatches) <= 1000
    assert not any(
        path.stat().st_size > 1000 for path in tmp_path.iterdir() if path.name != "lie.zip"
    )


def test_a_tar_header_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 33
    first = tarfile.TarInfo("first")
    head = tarred((first, b"hello"), mode="w")[:1024] + info.tobuf(tarfile.GNU_FORMAT) + bytes(2048)
    (tmp_path / "x.tgz").write_bytes(gzip.compress(head))
    wanted = wished(TEXT)
    assert "a header of 8589934592 bytes" in archives.extract(
        tmp_path / "x.tgz", [wanted], tmp_path
    ).explain(wanted)


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(["zip", "tgz", "tar", "gz"]),
    changes=st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), max_size=6),
    cut=st.integers(0, 1 << 16),
)
def test_a_damaged_container_gives_the_right_bytes_or_a_reason(
    kind: str, changes: list[tuple[int, int]], cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, text = tmp_path_factory.mktemp("damaged"), b"the small cat sleeps\n" * 40
    info = tarfile.TarInfo("a/" + "long" * 40)
    made = {
        "zip": zipped(a=text, b=text[1:]),
        "tgz": tarred((info, text)),
        "tar": tarred((info, text), mode="w"),
        "gz": gzip.compress(text),
    }
    data = bytearray(made[kind])
    for at, value in changes:
        data[at % len(data)] = value
    if cut % 3 == 0:
        del data[cut % len(data) :]
    (folder / "x").write_bytes(data)
    wanted = wished(text)
    extraction = archives.extract(folder / "x", [wanted], folder)
    if extraction.extracted:
        assert (folder / "a.txt").read_bytes() == text
    else:
        assert extraction.explain(wanted)
        assert not (folder / "a.txt").exists()
    mirror.search(folder, [wanted], folder)


# --- mirrors


def test_a_mirror_folder_may_hold_a_repacked_archive(desk: Desk, tmp_path: Path) -> None:
    store = tmp_path / "mirror" / "a" / "b"
    store.mkdir(parents=True)
    (store / "unrelated.zip").write_bytes(zipped(x=b"nothing"))
    (store / "anything").write_bytes(
        tarred((tarfile.TarInfo("p/q"), TEXT), (tarfile.TarInfo("r"), TEXT[1:]))
    )
    dead = "http://127.0.0.1:9/a.zip"
    out = desk.get(
        item(TEXT, dead), item(TEXT[1:], dead, name="b"), mirrored=str(tmp_path / "mirror")
    )
    assert (out / "a.txt").read_bytes() == TEXT
    assert (out / "b").read_bytes() == TEXT[1:]


def test_files_missing_from_a_mirror_come_from_the_addresses(
    site: Site, desk: Desk, tmp_path: Path
) -> None:
    (tmp_path / "mirror").mkdir()
    # of the right size and name, with other bytes
    (tmp_path / "mirror" / "a.txt").write_bytes(content(len(TEXT), 3))
    site.files["/a.txt"] = TEXT
    out = desk.get(item(TEXT, f"{site.url}/a.txt"), mirrored=str(tmp_path / "mirror"))
    assert (out / "a.txt").read_bytes() == TEXT


def test_mirror_opens_only_archives_of_plausible_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "mirror"
    store.mkdir()
    (store / "big.tgz").write_bytes(
        tarred((tarfile.TarInfo("x"), content(900_000)), (tarfile.TarInfo("y"), TEXT))
    )
    (store / "small.tgz").write_bytes(tarred((tarfile.TarInfo("x"), b"hello")))
    (store / "other.gz").write_bytes(gzip.compress(TEXT[1:]))
    (store / "other.zip").write_bytes(zipped(x=TEXT[1:]))
    (store / "right.zip").write_bytes(zipped(x=TEXT))
    opened: list[str] = []
    original = archives.extract
    monkeypatch.setattr(
        archives, "extract", lambda path, *rest: opened.append(path.name) or original(path, *rest)
    )
    wanted = wished(TEXT)
    assert mirror.search(store, [wanted], tmp_path).extracted
    assert opened == ["right.zip"]
    (store / "right.zip").unlink()
    assert mirror.search(store, [wanted], tmp_path).extracted
    assert opened == ["right.zip", "big.tgz"]


@pytest.mark.parametrize("path", ["/m/mine/a.zip", "/m/a.zip", "/m/mine/a.txt", "/m/a.txt"])
def test_a_mirror_address_may_hold_the_archive_or_the_file(
    path: str, site: Site, desk: Desk
) -> None:
    site.files[path] = zipped(x=TEXT) if path.endswith("zip") else TEXT
    out = desk.get(item(TEXT, "http://127.0.0.1:9/files/a.zip?raw=1"), mirrored=f"{site.url}/m/")
    assert (out / "a.txt").read_bytes() == TEXT


def test_a_mirror_that_is_not_there_is_refused(desk: Desk, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"SEQLINE_MIRROR: got .*/nowhere; expected a folder"):
        desk.get(item(TEXT, "http://127.0.0.1:9/"), mirrored=str(tmp_path / "nowhere"))


def test_file_addresses_need_no_server(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "a b.gz").write_bytes(gzip.compress(TEXT))
    url = (tmp_path / "a b.gz").as_uri()
    assert (desk.get(item(TEXT, f"file://{tmp_path}/none", url)) / "a.txt").read_bytes() == TEXT


# --- the user's own files


def own(path: Path, into: Path) -> dict[str, bytes]:
    into.mkdir()
    obtain("mine", {"path": str(path)}, into, DownloadSettings("", into.parent / "work"))
    return {name: (into / name).read_bytes() for name in held(into) - {"manifest.json"}}


def test_own_files_are_copied_with_the_links_that_stay_inside(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "x").write_bytes(b"1")
    (folder / "link").symlink_to("sub/x")
    assert own(folder, tmp_path / "one") == {"sub/x": b"1", "link": b"1"}
    assert not (tmp_path / "one" / "link").is_symlink()
    assert own(folder / "sub" / "x", tmp_path / "two") == {"x": b"1"}


def test_own_files_that_cannot_be_copied_are_refused(tmp_path: Path) -> None:
    for name in ("leads_out", "pipe", "empty", "named", "loop"):
        (tmp_path / name).mkdir()
    (tmp_path / "secret").write_text("x")
    (tmp_path / "leads_out" / "x").symlink_to(tmp_path / "secret")
    os.mkfifo(tmp_path / "pipe" / "x")
    (tmp_path / "named" / "manifest.json").write_text("{}")
    (tmp_path / "loop" / "x").symlink_to(".")
    reasons = {
        "leads_out": "leads out of the folder",
        "pipe": "no regular file",
        "empty": "holds no file",
        "named": "manifest.json",
        "loop": "no regular file",
        "missing": "a file or folder",
        ".": "does not hold the pipeline's own data",
    }
    for name, reason in reasons.items():
        into = tmp_path / f"out_{name.strip('.')}"
        with pytest.raises(UserError, match=rf"^corpora.mine.source.path: got .*{reason}"):
            own(tmp_path / name, into)


# --- the section


@pytest.mark.parametrize(
    ("source", "key"),
    [
        ({}, "source"),
        ({"path": "x", "builtin": {}}, "source"),
        ({"url": "x"}, "source"),
        ({"path": 3}, "source.path"),
        ({"builtin": {"seed": 1}}, "source.builtin.grammar"),
        ({"builtin": {"grammar": "klingon"}}, "source.builtin.grammar"),
        ({"files": []}, "source.files"),
        ({"files": [{**item(b"x", "http://a/"), "size": 1}]}, "source.files[0].size"),
        ({"files": [item(b"x", "http://a/", name="../a")]}, "source.files[0].name"),
        ({"files": [item(b"x", "http://a/", name=".candidate")]}, "source.files[0].name"),
        ({"files": [item(b"x", "http://a/", name="manifest.json")]}, "source.files[0].name"),
        (
            {"files": [item(b"x", "http://a/"), item(b"y", "http://a/", name="A.TXT")]},
            "source.files[1].name",
        ),
        ({"files": [{**item(b"x", "http://a/"), "sha256": "12"}]}, "source.files[0].sha256"),
        ({"files": [{**item(b"x", "http://a/"), "bytes": 0}]}, "source.files[0].bytes"),
        ({"files": [{**item(b"x", "http://a/"), "bytes": None}]}, "source.files[0].bytes"),
        ({"files": [{**item(b"x", "http://a/"), "sha256": None}]}, "source.files[0].sha256"),
        (
            {"files": [{**item(b"x", "http://a/"), "sha256": None, "bytes": None, "name": "../a"}]},
            "source.files[0].name",
        ),
        ({"files": [{**item(b"x"), "sha256": None, "bytes": None}]}, "source.files[0].urls"),
        ({"files": [item(b"x")]}, "source.files[0].urls"),
        ({"files": [item(b"x", "ftp://a/b")]}, "source.files[0].urls[0]"),
        ({"files": [item(b"x", "http://me:word@a/b")]}, "source.files[0].urls[0]"),
        ({"files": [item(b"x", "http:///b")]}, "source.files[0].urls[0]"),
        ({"files": [item(b"x", "http://a/\nb")]}, "source.files[0].urls[0]"),
    ],
)
def test_a_wrong_section_is_refused_by_its_key(
    source: dict[str, object], key: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as caught:
        obtain("mine", source, tmp_path, DownloadSettings("", tmp_path))
    assert str(caught.value).startswith(f"corpora.mine.{key}: got ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "preset", sorted((ROOT / "presets").glob("*.yaml")), ids=lambda path: path.stem
)
def test_every_preset_names_its_files_well(preset: Path) -> None:
    for corpus, block in yaml.safe_load(preset.read_text())["corpora"].items():
        for described in block["source"].get("files", []):
            assert Listed(**{**described, "urls": tuple(described["urls"])}).pinned(), corpus


def test_a_grammars_corpus_is_the_same_bytes_each_time(tmp_path: Path) -> None:
    corpora = yaml.safe_load((ROOT / "params.yaml").read_text())["corpora"]
    for name, block in corpora.items():
        if "builtin" not in block["source"]:
            continue
        small = dict.fromkeys(block["source"]["builtin"]["sizes"], 5)
        source = {"builtin": {**block["source"]["builtin"], "sizes": small}}
        made = []
        for turn in ("one", "two"):
            (tmp_path / name / turn).mkdir(parents=True)
            obtain(name, source, tmp_path / name / turn, DownloadSettings("", tmp_path))
            made.append(
                {
                    file: (tmp_path / name / turn / file).read_bytes()
                    for file in held(tmp_path / name / turn)
                }
            )
        assert made[0] == made[1]
        listed = json.loads(made[0]["manifest.json"])["files"]
        assert {entry["name"] for entry in listed} == made[0].keys() - {"manifest.json"}


def test_progress_off_a_terminal_is_plain_lines(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site.files["/a"] = TEXT
    fetcher(tmp_path, fetch.DEFAULT_RETRIES).fetch(f"{site.url}/a", LIMITS)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        f"mine {site.url}/a: begun at 0.0 of 0.3 MB",
        f"mine {site.url}/a: ended at 0.3 of 0.3 MB",
    ]


def test_progress_on_a_terminal_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stderr", screen)
    with progress("mine", 50, 100) as advance:
        advance(50)
    assert "100%" in screen.getvalue()
