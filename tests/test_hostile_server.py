"""Downloads from servers that mean harm, or never end: each is given up, and told in one line."""

import errno
import hashlib
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pipeline import refresh
from pipeline.download import budget as budgets
from pipeline.download import destinations, fetch
from pipeline.download.budget import SHIPPED, Account, Budget
from pipeline.download.destinations import Zone, zone, zone_of_host
from pipeline.download.failures import BudgetSpent
from pipeline.download.fetch import Patience
from pipeline.download.source import Surroundings, obtain
from pipeline.errors import UserError

ROOT = Path(__file__).parent.parent
QUICK = Patience(connect=5.0, silence=5.0, attempts=3, pause=0.0)
TEXT = b"the small cat sleeps\n" * 50
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


@dataclass
class Exchange:
    """One request, and how to answer it: `send` says whether the client is still there."""

    number: int
    path: str
    headers: dict[str, str]
    connection: socket.socket
    closing: threading.Event

    def send(self, data: bytes) -> bool:
        try:
            self.connection.sendall(data)
        except OSError:
            return False
        return not self.closing.is_set()

    def forever(self, data: bytes, pause: float = 0.0) -> None:
        """Send it again and again until the client leaves."""
        while self.send(data) and not (pause and self.closing.wait(pause)):
            pass

    def file(self, data: bytes = TEXT) -> None:
        self.send(OK + b"Content-Length: %d\r\n\r\n" % len(data) + data)


Answer = Callable[[Exchange], object]


@dataclass
class Server:
    """A loopback server that sends what `answer` makes of each request, as bytes, and nothing else."""

    host: str = "127.0.0.1"
    context: ssl.SSLContext | None = None
    answer: Answer = Exchange.file
    requests: list[Exchange] = field(default_factory=list)
    connections: int = 0
    handshake: Callable[[socket.socket, threading.Event], object] | None = None

    def __post_init__(self) -> None:
        self.closing = threading.Event()
        self.listener = socket.create_server((self.host, 0))
        self.threads = [threading.Thread(target=self.serve)]
        self.threads[0].start()

    @property
    def url(self) -> str:
        scheme = "https" if self.context or self.handshake else "http"
        return f"{scheme}://{self.host}:{self.listener.getsockname()[1]}"

    def serve(self) -> None:
        while True:
            connection, _ = self.listener.accept()
            if self.closing.is_set():
                connection.close()
                return
            self.connections += 1
            thread = threading.Thread(target=self.talk, args=(connection,))
            thread.start()
            self.threads.append(thread)

    def talk(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(20)
            if self.handshake:
                self.handshake(connection, self.closing)
                return
            try:
                if self.context:
                    connection = self.context.wrap_socket(connection, server_side=True)
                head = b""
                while b"\r\n\r\n" not in head:
                    data = connection.recv(65536)
                    if not data:
                        return
                    head += data
            except OSError:
                return
            with connection:
                first, *lines = head.decode().splitlines()
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
                exchange = Exchange(len(self.requests), first.split()[1], headers, connection, self.closing)
                self.requests.append(exchange)
                self.answer(exchange)

    def close(self) -> None:
        self.closing.set()
        socket.create_connection(self.listener.getsockname()).close()
        self.listener.close()
        for thread in self.threads:
            thread.join(20)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(**keys: object) -> Server:
        servers.append(Server(**keys))  # type: ignore[arg-type]
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def server(serve: Callable[..., Server]) -> Server:
    return serve()


def pinned(*urls: str, data: bytes = TEXT, name: str = "a.txt") -> dict[str, object]:
    return {"name": name, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data), "urls": list(urls)}


def loose(*urls: str, name: str = "a.txt") -> dict[str, object]:
    return {"name": name, "sha256": None, "bytes": None, "urls": list(urls)}


@dataclass
class Desk:
    folder: Path
    budget: Budget = SHIPPED
    patience: Patience = QUICK

    @property
    def work(self) -> Path:
        return self.folder / "work"

    def get(self, *files: dict[str, object], mirrored: str = "") -> bytes:
        """Download the files; the first one's bytes."""
        into = self.folder / "out"
        into.mkdir(exist_ok=True)
        obtain("mine", {"files": list(files)}, into, Surroundings(mirrored, self.work, self.patience, self.budget))
        return (into / str(files[0]["name"])).read_bytes()

    def refusal(self, *files: dict[str, object], mirrored: str = "") -> str:
        with pytest.raises(UserError) as caught:
            self.get(*files, mirrored=mirrored)
        line = str(caught.value)
        assert line.startswith("corpora.mine.source.files[0] (a.txt): got ")
        assert line.isprintable()
        assert len(line) < 1000
        return line

    def spent(self) -> dict[str, float]:
        """What the work folder has of what was spent; empty for nothing."""
        found = list(self.work.glob("*.spent"))
        assert len(found) <= 1
        return json.loads(found[0].read_text()) if found else {}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


# --- answers without end


ENDLESS: dict[str, Answer] = {
    "100 Continue": lambda it: it.forever(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
    "100 Continue with headers": lambda it: it.forever(b"HTTP/1.1 100 Continue\r\nA: b\r\n\r\n" * 1000),
    "a status line": lambda it: it.forever(b"HTTP/1.1 200 " + b"x" * 60_000),
    "headers": lambda it: it.send(OK) and it.forever(b"X-A: b\r\n" * 1000),
    "a header": lambda it: it.send(OK + b"X-A: ") and it.forever(b"x" * 60_000),
    "trailers": lambda it: it.send(CHUNKED + b"1\r\nx\r\n0\r\n") and it.forever(b"A: b\r\n" * 999),
    "a trailer": lambda it: it.send(CHUNKED + b"1\r\nx\r\n0\r\n") and it.forever(b"x" * 60_000),
    "a chunk's size": lambda it: it.send(CHUNKED) and it.forever(b"1" * 60_000),
    "a chunk's extension": lambda it: it.send(CHUNKED + b"1;") and it.forever(b"x" * 60_000),
    "a chunk of -1 bytes": lambda it: it.send(CHUNKED + b"-1\r\n") and it.forever(b"x" * 60_000),
    "the body of an error": lambda it: it.send(b"HTTP/1.1 404 No\r\n\r\n") and it.forever(b"x" * 60_000),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_an_endless_answer_is_left_after_a_little_of_it(name: str, server: Server, desk: Desk) -> None:
    server.answer = ENDLESS[name]
    desk.refusal(pinned(server.url + "/a"))
    assert 1 <= server.connections <= QUICK.attempts
    assert sum(path.stat().st_size for path in desk.work.glob("*.part")) <= 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_the_body_of_a_redirect_is_not_read(status: int, server: Server, desk: Desk) -> None:
    def answer(it: Exchange) -> None:
        if it.path == "/a":
            it.file()
        else:
            it.send(b"HTTP/1.1 %d Moved\r\nLocation: /a\r\n\r\n" % status)
            it.forever(b"x" * 60_000)

    server.answer = answer
    desk.budget = replace(SHIPPED, bytes=2_000_000)
    assert desk.get(pinned(server.url + "/b")) == TEXT


def test_an_endless_file_is_left_when_the_budget_of_bytes_is_spent(server: Server, desk: Desk) -> None:
    server.answer = lambda it: it.send(OK + b"\r\n") and it.forever(b"x" * 60_000)
    desk.budget = replace(SHIPPED, bytes=3_000_000)
    line = desk.refusal(loose(server.url + "/a"))
    assert "its source's budget of 3000000 bytes is spent" in line
    assert line.endswith(f"Raise download.bytes in flow.yaml, or delete {next(desk.work.glob('*.spent'))} to begin anew.")
    assert desk.spent()["bytes"] < 3_200_000
    desk.refusal(loose(server.url + "/a"))
    assert server.connections == 1


DRIPS: dict[str, bytes] = {
    "before the status line": b"",
    "100 Continue": b"HTTP/1.1 100 Continue\r\n\r\n",
    "headers": OK + b"X-A: ",
    "the body": OK + b"Content-Length: 1050\r\n\r\n",
    "a chunk": CHUNKED,
    "trailers": CHUNKED + b"1\r\nx\r\n0\r\n",
}


@pytest.mark.parametrize("name", DRIPS)
def test_a_server_that_drips_is_left_when_the_budget_of_seconds_is_spent(name: str, server: Server, desk: Desk) -> None:
    server.answer = lambda it: it.send(DRIPS[name]) and it.forever(b"1", pause=0.02)
    desk.budget = replace(SHIPPED, seconds=0.2)
    line = desk.refusal(pinned(server.url + "/a"))
    assert "its source's budget of 0.2 seconds is spent" in line
    assert "Raise download.seconds in flow.yaml, or delete " in line
    assert desk.spent()["seconds"] >= 0.2


def test_a_silent_server_is_left_when_the_budget_of_seconds_is_spent(server: Server, desk: Desk) -> None:
    server.answer = lambda it: it.closing.wait(20)
    desk.budget = replace(SHIPPED, seconds=0.2)
    desk.patience = replace(QUICK, silence=1000.0)
    assert "its source's budget of 0.2 seconds is spent" in desk.refusal(pinned(server.url + "/a"))


def test_a_server_that_breaks_off_after_each_piece_is_left_when_the_budget_of_requests_is_spent(
    server: Server, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "_WORTHWHILE", 1)

    def answer(it: Exchange) -> None:
        start = int(it.headers.get("range", "bytes=0-")[6:-1])
        head = b"HTTP/1.1 206 Part\r\nContent-Range: bytes %d-1049/1050\r\n" % start if start else OK
        it.send(head + b"Content-Length: %d\r\n\r\n" % (1050 - start) + TEXT[start : start + 10])

    server.answer = answer
    desk.budget = replace(SHIPPED, requests=20)
    assert "its source's budget of 20 requests is spent" in desk.refusal(pinned(server.url + "/a"))
    assert server.connections == 20
    desk.budget = replace(SHIPPED, requests=50)
    assert "its source's budget of 50 requests is spent" in desk.refusal(pinned(server.url + "/a"))
    assert server.connections == 50  # what was spent before counts
    desk.budget = SHIPPED
    assert desk.get(pinned(server.url + "/a")) == TEXT  # what came before was kept
    assert server.connections == 105
    assert desk.spent() == {}


@pytest.mark.parametrize("ranges", ["another file each time", "416"])
def test_a_file_that_begins_anew_each_time_makes_no_progress(ranges: str, server: Server, desk: Desk) -> None:
    def answer(it: Exchange) -> None:
        if "range" in it.headers and ranges == "416":
            it.send(b"HTTP/1.1 416 No\r\nContent-Length: 0\r\n\r\n")
        else:
            it.send(OK + b'ETag: "%d"\r\nContent-Length: 9000000\r\n\r\n' % it.number + b"%d" % it.number * (2 << 20))

    server.answer = answer
    desk.budget = replace(SHIPPED, bytes=100_000_000)
    wanted = pinned(server.url + "/a"), pinned(server.url + "/a", data=bytes(9_000_000), name="b")
    assert f", {QUICK.attempts} times" in desk.refusal(*wanted)
    assert server.connections <= 2 * QUICK.attempts


# --- one budget


def test_all_addresses_and_files_of_a_source_share_its_budget(server: Server, desk: Desk) -> None:
    server.answer = lambda it: it.send(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")
    desk.budget = replace(SHIPPED, requests=3)
    urls = [f"{server.url}/{n}" for n in range(3)]
    line = desk.refusal(pinned(*urls[:2]), pinned(*urls[2:], name="b"), mirrored=f"{server.url}/mirror")
    assert "budget of 3 requests is spent" in line
    assert server.connections == 3
    assert all(it.path.startswith("/mirror/") for it in server.requests)


def test_redirects_count_as_requests(server: Server, desk: Desk) -> None:
    server.answer = lambda it: it.send(b"HTTP/1.1 302 Moved\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n")
    desk.budget = replace(SHIPPED, requests=4)
    assert "budget of 4 requests is spent" in desk.refusal(pinned(server.url + "/a"))
    assert server.connections == 4


def test_another_source_has_a_budget_of_its_own(server: Server, desk: Desk) -> None:
    desk.budget = replace(SHIPPED, requests=1)
    server.answer = lambda it: it.send(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n") if it.path == "/a" else it.file()
    desk.refusal(pinned(server.url + "/a"))
    assert desk.get(pinned(server.url + "/b")) == TEXT


def test_a_spent_budget_leaves_local_files_and_mirrors(server: Server, desk: Desk, tmp_path: Path) -> None:
    server.answer = lambda it: it.send(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")
    desk.budget = replace(SHIPPED, requests=1)
    copy = tmp_path / "mirror" / "copy"
    wanted = pinned(server.url + "/a", server.url + "/b", copy.as_uri())
    desk.refusal(wanted)
    copy.parent.mkdir()
    copy.write_bytes(TEXT)
    assert desk.get(wanted) == TEXT


def test_deleting_the_account_begins_anew_and_success_forgets_it(server: Server, desk: Desk) -> None:
    desk.budget = replace(SHIPPED, requests=1)
    server.answer = lambda it: it.send(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")
    path = re.search(r"delete (\S+) to begin", desk.refusal(pinned(server.url + "/a")))
    assert path
    Path(path[1]).unlink()
    server.answer = Exchange.file
    assert desk.get(pinned(server.url + "/a")) == TEXT
    assert desk.spent() == {}


def test_ordinary_failures_never_add_up_to_a_spent_budget(server: Server, desk: Desk) -> None:
    server.answer = lambda it: it.send(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")
    desk.budget = replace(SHIPPED, requests=2)
    for _ in range(5):
        assert "404 No" in desk.refusal(pinned(server.url + "/a"))


def test_time_between_exchanges_is_not_counted_and_time_in_them_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(budgets.time, "monotonic", lambda: clock[0])
    for _ in range(3):
        account = Account(replace(SHIPPED, seconds=10.0), tmp_path, "x")
        clock[0] += 1e6
        with account.exchange():
            clock[0] += 3
            assert account.seconds_left() > 0
        clock[0] += 1e6
    with account.exchange():
        clock[0] += 3
        with pytest.raises(BudgetSpent, match="budget of 10 seconds"):
            account.seconds_left()
    assert account.spent == "seconds"
    assert Account(replace(SHIPPED, seconds=13.0), tmp_path, "x").seconds_left() == pytest.approx(1.0)


def test_processes_that_download_the_same_source_spend_from_one_budget(tmp_path: Path) -> None:
    first, second = (Account(replace(SHIPPED, requests=5), tmp_path, "x") for _ in range(2))
    for account in (first, second, first, second, first):
        with account.exchange():
            account.receive(10)
    with pytest.raises(BudgetSpent), first.exchange():
        pass
    assert Account(SHIPPED, tmp_path, "x").spent == ""
    assert json.loads(next(tmp_path.glob("*.spent")).read_text())["bytes"] == 50


DAMAGED = [
    "",
    "[]",
    "{}",
    "[" * 100_000,
    *(f'{{"seconds": {n}, "bytes": 0, "requests": 0}}' for n in ("NaN", "-1e9", "1e999")),
]


@pytest.mark.parametrize("damage", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_account_begins_anew(damage: str, tmp_path: Path) -> None:
    account = Account(SHIPPED, tmp_path, "x")
    with account.exchange():
        pass
    next(tmp_path.glob("*.spent")).write_text(damage)
    again = Account(SHIPPED, tmp_path, "x")
    assert 0 < again.seconds_left() <= SHIPPED.seconds
    with again.exchange():
        pass


@pytest.mark.long
def test_what_a_killed_stage_has_spent_counts_when_it_starts_again(server: Server, tmp_path: Path) -> None:
    dripping = threading.Event()

    def answer(it: Exchange) -> None:
        it.send(OK + b"Content-Length: 1050\r\n\r\n")
        dripping.set()
        it.forever(b"x", pause=0.02)

    server.answer = answer
    block = {"format": "text_lines", "read": {}, "limit": None, "split": "official", "text": {}, "vocab": {}, "samples": []}
    corpora = {"mine": block | {"source": {"files": [pinned(server.url + "/a")]}}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"corpora": corpora}))
    (tmp_path / "flow.yaml").write_text(yaml.safe_dump({"download": {"seconds": 60, "bytes": 10**9, "requests": 3}}))
    out, params, work = tmp_path / "raw" / "mine", tmp_path / "params.yaml", tmp_path / "work"
    command = [sys.executable, "-m", "stages.download", "mine", "--params", params, "--out", out, "--work", work]
    for kills in (1, 2, 3):
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        assert dripping.wait(60)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        dripping.clear()
        assert json.loads(next(work.glob("*.spent")).read_text())["requests"] == kills
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "its source's budget of 3 requests is spent" in said
    assert "Raise download.requests in flow.yaml" in said
    assert said.count("\n") == 1
    assert server.connections == 3


def test_refresh_spends_from_the_same_budget(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "_LONGEST_PAUSE", 0.0)
    monkeypatch.setattr(fetch, "_WORTHWHILE", 1)
    (tmp_path / "flow.yaml").write_text(yaml.safe_dump({"download": {"seconds": 60, "bytes": 10**9, "requests": 5}}))
    described = {"files": [loose(server.url + "/a")]}
    monkeypatch.setattr(refresh.params, "corpus", lambda *_: corpus)
    corpus = type("Corpus", (), {"source": described})
    served, unclear = refresh._served(tmp_path, "mine", corpus)  # type: ignore[arg-type]
    assert served == {"a.txt": hashlib.sha256(TEXT).hexdigest()}
    assert not list((tmp_path / ".seqline" / "downloads").glob("*.spent"))

    # Each time a byte more than ever, under a validator that stays: progress without end.
    def answer(it: Exchange) -> None:
        start = int(it.headers.get("range", "bytes=0-")[6:-1])
        head = b"HTTP/1.1 206 Part\r\nContent-Range: bytes %d-999/1000\r\n" % start if start else OK
        it.send(head + b'ETag: "x"\r\nContent-Length: %d\r\n\r\nx' % (1000 - start))

    server.answer = answer
    for asked in (6, 6):  # the second time, nothing is asked any more
        served, unclear = refresh._served(tmp_path, "mine", corpus)  # type: ignore[arg-type]
        assert served == {}
        assert "budget of 5 requests is spent; the copy at hand stays. Raise download.requests in flow.yaml" in unclear[0]
        assert server.connections == asked


# --- the section of flow.yaml


def test_the_shipped_budget_is_that_of_flow_yaml_and_the_one_without_it(tmp_path: Path) -> None:
    assert budgets.load(ROOT) == SHIPPED == budgets.load(tmp_path)


@pytest.mark.parametrize(
    ("section", "line"),
    [
        ({"seconds": 1, "bytes": 1}, "download.requests: got nothing"),
        ({"seconds": 0, "bytes": 1, "requests": 1}, "download.seconds: got 0.0; expected more than 0."),
        ({"seconds": 1, "bytes": 1.5, "requests": 1}, "download.bytes: got 1.5; expected a whole number."),
        ({"seconds": 1, "bytes": 1, "requests": 1, "hours": 1}, "download.hours: got an unknown key"),
    ],
)
def test_a_wrong_budget_is_refused_by_its_key(section: dict[str, object], line: str, tmp_path: Path) -> None:
    (tmp_path / "flow.yaml").write_text(yaml.safe_dump({"download": section}))
    with pytest.raises(UserError, match=f"^{re.escape(line)}"):
        budgets.load(tmp_path)


# --- answers that are no HTTP


DIGITS = b"9" * 5000
NONSENSE: dict[str, bytes] = {
    "a length of 5,000 digits": OK + b"Content-Length: " + DIGITS + b"\r\n\r\n" + TEXT,
    "a length in other digits": OK + "Content-Length: ²\r\n\r\n".encode("latin-1") + TEXT,
    "a negative length": OK + b"Content-Length: -5\r\n\r\n" + TEXT,
    "two lengths": OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n" + TEXT,
    "a chunk size of 5,000 digits": CHUNKED + DIGITS + b"\r\n" + TEXT,
    "a negative chunk size": CHUNKED + b"-5\r\n" + TEXT,
    "a chunk size that is none": CHUNKED + b"xyz\r\n" + TEXT,
    "a status of 5,000 digits": b"HTTP/1.1 " + DIGITS + b" OK\r\n\r\n",
    "no status": b"\r\n\r\n",
    "a version that is none": b"HTTP/" + DIGITS + b" 200 OK\r\n\r\n",
    "a null byte in a header": OK + b"ETag: \x00\r\nContent-Length: 5\r\n\r\nwrong",
    "a wait of 5,000 digits": b"HTTP/1.1 503 Busy\r\nRetry-After: " + DIGITS + b"\r\n\r\n",
    "nothing": b"",
    "a Location of no UTF-8": b"HTTP/1.1 302 Moved\r\nLocation: http://\xff\xfe/\r\n\r\n",
    "a Location that is no address": b"HTTP/1.1 302 Moved\r\nLocation: http://[::1\r\n\r\n",
    "a Location with a port of 5,000 digits": b"HTTP/1.1 302 Moved\r\nLocation: http://a:" + DIGITS + b"/\r\n\r\n",
    "a Location with a port that is none": b"HTTP/1.1 302 Moved\r\nLocation: http://a:b/\r\n\r\n",
    "a Location without a host": b"HTTP/1.1 302 Moved\r\nLocation: http:///x\r\n\r\n",
    "a Location with a long name": b"HTTP/1.1 302 Moved\r\nLocation: http://" + b"a" * 300 + b"/\r\n\r\n",
    "a Location with an empty label": b"HTTP/1.1 302 Moved\r\nLocation: http://a..b/\r\n\r\n",
    "a Location that steers terminals": b"HTTP/1.1 302 Moved\r\nLocation: http://a/\x1b[2J\r\n\r\n",
    "a Location that is empty": b"HTTP/1.1 302 Moved\r\nLocation: \r\n\r\n",
}


@pytest.mark.parametrize("name", NONSENSE)
def test_an_answer_that_is_no_http_is_told_in_one_line(
    name: str, server: Server, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "_LONGEST_PAUSE", 0.0)
    server.answer = lambda it: it.send(NONSENSE[name])
    line = desk.refusal(pinned(server.url + "/a"))
    assert not re.search("9{200}", line)


@pytest.mark.parametrize("value", [DIGITS, b"-5", b"", b"0-1/" + DIGITS, b"bytes " + DIGITS + b"-1/5"])
def test_a_range_that_is_none_begins_the_file_anew(value: bytes, server: Server, desk: Desk) -> None:
    def answer(it: Exchange) -> None:
        if it.number == 0:
            it.send(OK + b"Content-Length: 1050\r\n\r\n" + TEXT[:500])
        elif "range" in it.headers:
            it.send(b"HTTP/1.1 206 Part\r\nContent-Range: " + value + b"\r\nContent-Length: 550\r\n\r\n" + TEXT[500:])
        else:
            it.file()

    server.answer = answer
    assert desk.get(pinned(server.url + "/a")) == TEXT


def test_what_a_server_says_cannot_steer_the_terminal(server: Server, desk: Desk) -> None:
    server.answer = lambda it: it.send(b"HTTP/1.1 404 \x1b]0;mine\x07\x1b[2J\x9b" + b"x" * 5000 + b"\r\n\r\n")
    assert r"404 \x1b]0;mine\x07\x1b[2J\x9bxxx" in desk.refusal(pinned(server.url + "/a"))


def test_a_validator_that_cannot_be_sent_back_is_none(server: Server, desk: Desk) -> None:
    def answer(it: Exchange) -> None:
        assert "if-range" not in it.headers
        if it.number == 0:
            it.send(OK + b'ETag: "\xff\x1b"\r\nContent-Length: 1050\r\n\r\n' + TEXT[:500])
        else:
            start = int(it.headers["range"][6:-1])
            it.send(
                b"HTTP/1.1 206 P\r\nContent-Range: bytes %d-1049/1050\r\nContent-Length: 550\r\n\r\n" % start + TEXT[start:]
            )

    server.answer = answer
    assert desk.get(pinned(server.url + "/a")) == TEXT


# --- where redirects lead


@pytest.mark.parametrize(
    ("address", "where"),
    [
        ("8.8.8.8", Zone.PUBLIC),
        ("2606:4700::1", Zone.PUBLIC),
        ("10.1.2.3", Zone.PRIVATE),
        ("192.168.1.1", Zone.PRIVATE),
        ("172.16.0.1", Zone.PRIVATE),
        ("100.64.0.1", Zone.PRIVATE),
        ("fd00::1", Zone.PRIVATE),
        ("::ffff:10.0.0.1", Zone.PRIVATE),
        ("127.0.0.1", Zone.LOOPBACK),
        ("127.9.9.9", Zone.LOOPBACK),
        ("0.0.0.0", Zone.LOOPBACK),
        ("::1", Zone.LOOPBACK),
        ("::", Zone.LOOPBACK),
        ("::ffff:127.0.0.1", Zone.LOOPBACK),
        ("64:ff9b::7f00:1", Zone.LOOPBACK),
        ("2002:7f00:1::", Zone.LOOPBACK),
        ("169.254.169.254", Zone.FORBIDDEN),
        ("fe80::1", Zone.FORBIDDEN),
        ("fe80::1%eth0", Zone.FORBIDDEN),
        ("::ffff:169.254.169.254", Zone.FORBIDDEN),
        ("fd00:ec2::254", Zone.FORBIDDEN),
        ("100.100.100.200", Zone.FORBIDDEN),
        ("224.0.0.1", Zone.FORBIDDEN),
    ],
)
def test_zones_of_addresses(address: str, where: Zone) -> None:
    assert zone(address) is where
    assert zone_of_host(address) is where


def test_zones_of_hosts_as_addresses_write_them() -> None:
    for host in ("localhost", "LOCALHOST.", "a.localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1"):
        assert zone_of_host(host) is Zone.LOOPBACK
    for host in ("example.org", "notlocalhost", "127.0.0.1.example.org"):
        assert zone_of_host(host) is Zone.PUBLIC
    assert zone_of_host("2852039166") is Zone.FORBIDDEN


@pytest.fixture
def public(monkeypatch: pytest.MonkeyPatch) -> str:
    """An address of this machine that passes for one of the public internet."""
    original = destinations.zone
    monkeypatch.setattr(destinations, "zone", lambda address: Zone.PUBLIC if address == "127.0.0.2" else original(address))
    return "127.0.0.2"


def redirecting(to: str) -> Answer:
    return lambda it: it.send(b"HTTP/1.1 302 Moved\r\nLocation: " + to.encode() + b"\r\nContent-Length: 0\r\n\r\n")


@pytest.mark.parametrize("host", ["169.254.169.254", "[fe80::1]", "2852039166", "[::ffff:169.254.169.254]", "224.0.0.1"])
def test_a_redirect_to_a_link_local_address_is_refused(host: str, server: Server, desk: Desk) -> None:
    server.answer = redirecting(f"http://{host}/latest/meta-data/")
    line = desk.refusal(pinned(server.url + "/a"))
    assert "/a: redirects to " in line
    assert "link-local, multicast or metadata" in line


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "127.1", "10.0.0.1", "192.168.0.1", "[fd00::1]"]
)
def test_a_public_server_may_not_redirect_to_this_machine_or_network(
    host: str, public: str, serve: Callable[..., Server], server: Server, desk: Desk
) -> None:
    outside = serve(host=public)
    outside.answer = redirecting(f"http://{host}:{server.listener.getsockname()[1]}/a")
    line = desk.refusal(pinned(outside.url + "/a"))
    assert re.search("redirects to .*, an address of (this machine|a private network)", line)
    assert server.connections == 0


def test_a_public_server_may_not_redirect_to_this_machine_by_a_name(
    public: str, serve: Callable[..., Server], server: Server, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = serve(host=public)
    answer_names(monkeypatch, {"rebound.example": ["127.0.0.1"], "both.example": ["127.0.0.1", public]})
    outside.answer = redirecting(f"http://rebound.example:{server.listener.getsockname()[1]}/a")
    assert "redirects to 127.0.0.1, an address of this machine" in desk.refusal(pinned(outside.url + "/a"))
    port = outside.listener.getsockname()[1]
    outside.answer = lambda it: it.file() if it.path == "/b" else redirecting(f"http://both.example:{port}/b")(it)
    assert desk.get(pinned(outside.url + "/a")) == TEXT
    assert server.connections == 0


def test_a_redirect_may_lead_on_from_where_it_was_and_outward(
    public: str, serve: Callable[..., Server], server: Server, desk: Desk
) -> None:
    """A mirror on one's own machine or network, named in params.yaml, may redirect within it, and to the internet."""
    second, outside = serve(), serve(host=public)
    server.answer = redirecting(second.url + "/a")
    assert desk.get(pinned(server.url + "/a")) == TEXT
    server.answer = redirecting(outside.url + "/a")
    assert desk.get(pinned(server.url + "/b")) == TEXT
    outside.answer = redirecting(second.url + "/a")  # but from there not back
    assert "an address of this machine" in desk.refusal(pinned(server.url + "/c"))


def answer_names(monkeypatch: pytest.MonkeyPatch, names: dict[str, list[str]]) -> None:
    """Let these names have these addresses."""
    original = socket.getaddrinfo

    def lookup(host: str, *rest: object, **keys: object) -> list[object]:
        return [found for name in names.get(host, [host]) for found in original(name, *rest, **keys)]  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)


@pytest.mark.parametrize("address", ["169.254.169.254", "fe80::1", "fd00:ec2::254"])
def test_a_name_that_stands_for_a_link_local_address_is_refused(
    address: str, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_names(monkeypatch, {"corpus.example": [address]})
    assert f"leads to {address}, a link-local, multicast or metadata address" in desk.refusal(
        pinned("http://corpus.example/a")
    )
    assert "a link-local, multicast or metadata address" in desk.refusal(pinned("http://169.254.169.254/a"))


@pytest.mark.parametrize("scheme", ["file", "ftp", "gopher", "data", "javascript"])
def test_a_redirect_to_another_scheme_is_refused(scheme: str, server: Server, desk: Desk) -> None:
    server.answer = redirecting(f"{scheme}:///etc/passwd")
    assert f"redirects to an address that begins with {scheme}:" in desk.refusal(pinned(server.url + "/a"))


def test_behind_a_proxy_addresses_are_judged_as_far_as_they_are_written(
    server: Server, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("http_proxy", server.url)
    assert desk.get(pinned("http://corpus.example/a")) == TEXT
    assert server.requests[0].path == "http://corpus.example/a"
    for host in ("127.0.0.1", "localhost", "10.0.0.1", "169.254.169.254"):
        server.answer = redirecting(f"http://{host}/a")
        assert "redirects to " in desk.refusal(pinned("http://corpus.example/b"))
    assert "metadata" in desk.refusal(pinned("http://169.254.169.254/c"))
    server.answer = ENDLESS["100 Continue"]
    assert "none of the file's" in desk.refusal(pinned("http://corpus.example/d"))


# --- TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(secret + made.public_bytes(pem))
    return path


@pytest.fixture
def secure(certificate: Path, serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch) -> Server:
    """An https server that is trusted."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    return serve(context=context)


def test_https_is_counted_as_it_is_sent(secure: Server, desk: Desk) -> None:
    data = os.urandom(300_000)
    secure.answer = lambda it: it.file(data)
    assert desk.get(pinned(secure.url + "/a", data=data)) == data
    secure.answer = lambda it: it.send(OK + b"\r\n") and it.forever(b"x" * 60_000)
    desk.budget = replace(SHIPPED, bytes=1_000_000)
    assert "budget of 1000000 bytes is spent" in desk.refusal(loose(secure.url + "/b"))
    assert 1_000_000 < desk.spent()["bytes"] < 1_100_000


def test_https_without_a_trusted_certificate_is_refused(secure: Server, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    assert "no trusted connection" in desk.refusal(pinned(secure.url + "/a"))
    assert secure.requests == []


def test_https_is_for_the_host_that_the_certificate_names(secure: Server, desk: Desk) -> None:
    assert "no trusted connection" in desk.refusal(pinned(secure.url.replace("127.0.0.1", "localhost") + "/a"))
    assert secure.requests == []


def test_a_redirect_from_https_to_http_is_refused(secure: Server, server: Server, desk: Desk) -> None:
    secure.answer = redirecting(server.url + "/a")
    assert f"redirects from https to {server.url}/a, which is not encrypted" in desk.refusal(pinned(secure.url + "/a"))
    assert server.connections == 0


def test_a_handshake_that_drips_is_left_when_the_budget_of_seconds_is_spent(
    serve: Callable[..., Server], desk: Desk
) -> None:
    def drip(connection: socket.socket, closing: threading.Event) -> None:
        try:
            connection.sendall(b"\x16\x03\x03\x40\x00")  # a record of 16 KiB
            while not closing.wait(0.02):
                connection.sendall(b"\x02")
        except OSError:
            pass

    server = serve(handshake=drip)
    desk.budget = replace(SHIPPED, seconds=0.2)
    assert "its source's budget of 0.2 seconds is spent" in desk.refusal(pinned(server.url + "/a"))


def test_a_connection_that_is_not_accepted_is_left_when_the_budget_of_seconds_is_spent(desk: Desk) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        fillers = []
        for _ in range(4):  # until the queue is full, and the next is not answered
            filler = socket.socket()
            filler.setblocking(False)
            assert filler.connect_ex(listener.getsockname()) in (0, errno.EINPROGRESS)
            fillers.append(filler)
        desk.budget = replace(SHIPPED, seconds=0.2)
        line = desk.refusal(pinned(f"http://127.0.0.1:{listener.getsockname()[1]}/a"))
        for filler in fillers:
            filler.close()
    assert "its source's budget of 0.2 seconds is spent" in line
