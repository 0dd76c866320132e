"""Servers that misbehave, on loopback, and downloads from them: fixtures and helpers."""

import hashlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pipeline.core.errors import UserError
from pipeline.download.budget import SHIPPED, Budget
from pipeline.download.fetch import RetryPolicy
from pipeline.download.source import DownloadSettings, obtain

QUICK = RetryPolicy(connect=5.0, silence=5.0, attempts=3, pause=0.0)
TEXT = b"the small cat sleeps\n" * 50
OK = b"HTTP/1.1 200 OK\r\n"
NOT_FOUND = b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


@dataclass
class Exchange:
    """One request and its connection; `send` returns whether the client is still there."""

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
        """Send the data again and again until the client leaves."""
        while self.send(data) and not (pause and self.closing.wait(pause)):
            pass

    def file(self, data: bytes = TEXT) -> None:
        self.send(OK + b"Content-Length: %d\r\n\r\n" % len(data) + data)


Answer = Callable[[Exchange], object]


@dataclass
class Server:
    """A loopback server that calls `answer` for each request and sends nothing by itself."""

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
                headers = {
                    name.lower(): value.strip()
                    for name, _, value in (line.partition(":") for line in lines)
                }
                exchange = Exchange(
                    len(self.requests), first.split()[1], headers, connection, self.closing
                )
                self.requests.append(exchange)
                self.answer(exchange)

    def close(self) -> None:
        self.closing.set()
        socket.create_connection(self.listener.getsockname()).close()
        self.threads[0].join(20)  # it accepts no further connection
        self.listener.close()
        for thread in self.threads:
            thread.join(20)


def ignore_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every connection be a direct one, whatever the environment names."""
    for name in (
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Server]]:
    """Start servers, which end with the test."""
    ignore_proxies(monkeypatch)
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
    return {
        "name": name,
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        "urls": list(urls),
    }


def loose(*urls: str, name: str = "a.txt") -> dict[str, object]:
    return {"name": name, "sha256": None, "bytes": None, "urls": list(urls)}


def redirecting(to: str) -> Answer:
    """Answer with a redirect."""
    return lambda exchange: exchange.send(
        b"HTTP/1.1 302 Moved\r\nLocation: " + to.encode() + b"\r\nContent-Length: 0\r\n\r\n"
    )


@dataclass
class Desk:
    """Downloads of one corpus into a temporary folder, within a budget."""

    folder: Path
    budget: Budget = SHIPPED
    patience: RetryPolicy = QUICK

    @property
    def work(self) -> Path:
        return self.folder / "work"

    def get(self, *files: dict[str, object], mirrored: str = "") -> bytes:
        """Download the files; the first one's bytes."""
        into = self.folder / "out"
        into.mkdir(exist_ok=True)
        obtain(
            "mine",
            {"files": list(files)},
            into,
            DownloadSettings(mirrored, self.work, self.patience, self.budget),
        )
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
        """Spending that the work folder records; empty if it records none."""
        files = list(self.work.glob("*.spent"))
        assert len(files) <= 1
        return json.loads(files[0].read_text()) if files else {}


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    ignore_proxies(monkeypatch)
    return Desk(tmp_path)
