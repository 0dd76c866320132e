"""Sockets of a process and of all that it starts: which addresses they listen on, and the requests
to a proxy."""

import contextlib
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import psutil

LOOPBACK = ("127.0.0.1", "::1")
_POLL_SECONDS = 0.02


class Listener(NamedTuple):
    """A socket that takes connections (TCP) or packets (an unconnected UDP socket), and the command
    that has it."""

    address: str
    port: int
    command: str


class Listeners:
    """Sockets on which the process tree of `pid` listens, polled in a thread for as long as the
    `with` block runs.

    A process that leaves the tree, as daemons do, is followed by its id for as long as it lives.
    """

    def __init__(self, pid: int) -> None:
        self.found: set[Listener] = set()
        self.processes: set[psutil.Process] = {psutil.Process(pid)}
        self._strangers: set[int] = set()  # ids of processes that this tree did not start
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._poll, daemon=True)

    def __enter__(self) -> "Listeners":
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def beyond_loopback(self) -> list[Listener]:
        """Those that another machine could reach."""
        return sorted(listener for listener in self.found if listener.address not in LOOPBACK)

    def wait_for(self, condition: Callable[[set[Listener]], bool], seconds: float) -> None:
        """Return once `condition` is true of the listeners so far."""
        until = time.monotonic() + seconds
        while not condition(self.found):
            assert time.monotonic() < until, f"waited in vain; found {sorted(self.found)}"
            time.sleep(_POLL_SECONDS)

    def _poll(self) -> None:
        while not self._over.wait(_POLL_SECONDS):
            self.processes = {process for process in self.processes if process.is_running()}
            pids = {process.pid for process in self.processes}
            running = psutil.pids()
            # A process changes its parent when that has ended, and never to one of this tree: so
            # only new ones are asked, until none is a child of those that were found.
            fresh = {*running} - pids - self._strangers
            while found := {pid for pid in fresh if _parent(pid) in pids}:
                for pid in found:
                    with contextlib.suppress(psutil.Error):
                        self.processes.add(psutil.Process(pid))
                pids |= found
                fresh -= found
            self._strangers = {*running} - pids
            for process in self.processes:
                with contextlib.suppress(psutil.Error, OSError):
                    self.found.update(_of(process))


def _parent(pid: int) -> int | None:
    """The parent's id; None for a process that has ended."""
    with contextlib.suppress(psutil.Error):
        return psutil.Process(pid).ppid()
    return None


def _of(process: psutil.Process) -> Iterator[Listener]:
    for connection in process.net_connections(kind="inet"):
        unconnected_udp = connection.status == psutil.CONN_NONE and not connection.raddr
        if connection.laddr and (connection.status == psutil.CONN_LISTEN or unconnected_udp):
            yield Listener(
                connection.laddr.ip, connection.laddr.port, " ".join(process.cmdline())[:100]
            )


@contextlib.contextmanager
def recording_proxy() -> Iterator[tuple[str, list[str]]]:
    """A proxy on loopback that lets nothing pass: its address, and the first line of each request
    so far."""
    requests: list[str] = []

    class Refuse(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            requests.append(self.rfile.readline(1000).decode("latin-1").strip())
            self.wfile.write(
                b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Refuse) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", requests
        finally:
            server.shutdown()
