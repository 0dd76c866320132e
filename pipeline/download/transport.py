"""HTTP connections to allowed addresses only, with every received byte counted and timed at the
socket.

`requests`, urllib3 and http.client read status lines, `100 Continue`, headers, chunk sizes and
trailers in loops that a server can keep running forever. So the limits apply below all of them and
below TLS, at the socket."""

import socket
import ssl
from typing import Any

import urllib3
from requests.adapters import HTTPAdapter
from urllib3.util import connection as urllib3_connection
from urllib3.util.ssltransport import SSLTransport

from pipeline.download.budget import Account
from pipeline.download.destinations import Zone, check_zone
from pipeline.download.failures import DownloadError

# Consecutive bytes that are not the file's: headers, chunk sizes, trailers, handshakes.
_MOST_OVERHEAD = 1 << 20


class Transport(HTTPAdapter):
    """Connections of one source, charged to its account.

    `nearest`: the nearest zone that the next connection may go to. `zone`: the zone of the last
    connection's server; None behind a proxy, which resolves the name itself."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.nearest = Zone.LOOPBACK
        self.zone: Zone | None = None
        self._overhead = 0
        super().__init__()

    def init_poolmanager(self, *sizes: Any, **pool_kwargs: Any) -> None:
        super().init_poolmanager(*sizes, **pool_kwargs, ssl_context=_tls())
        self._meter(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **proxy_kwargs: Any) -> Any:
        if proxy in self.proxy_manager:
            return self.proxy_manager[proxy]
        manager = super().proxy_manager_for(proxy, **proxy_kwargs, ssl_context=_tls())
        self._meter(manager)
        return manager

    def begin(self, nearest: Zone) -> None:
        """Prepare for one exchange on a new connection."""
        self.poolmanager.clear()
        for manager in self.proxy_manager.values():
            manager.clear()
        self.nearest = nearest
        self.zone = None
        self._overhead = 0

    def received(self, count: int) -> None:
        """Count bytes received from the network."""
        self.account.receive(count)
        self._overhead += count
        if self._overhead > _MOST_OVERHEAD:
            raise DownloadError(f"over {_MOST_OVERHEAD} bytes that are none of the file's")

    def delivered(self) -> None:
        """Reset the overhead: some of the received bytes were the file's."""
        self._overhead = 0

    def _meter(self, manager: Any) -> None:
        """Meter all connections of the pool manager: subclass its pools and their connections."""
        manager.pool_classes_by_scheme = {
            scheme: type(
                f"Metered{pool.__name__}",
                (pool,),
                {"ConnectionCls": self._metered(pool.ConnectionCls)},
            )
            for scheme, pool in manager.pool_classes_by_scheme.items()
        }

    def _metered(self, connection: Any) -> Any:
        return type(
            f"Metered{connection.__name__}", (_MeteredConnection, connection), {"transport": self}
        )


class _MeteredConnection:
    """A mixin for urllib3's connections: check the addresses, and meter received bytes."""

    transport: Transport
    proxy: Any
    timeout: float
    _dns_host: str
    port: int

    def _new_conn(self) -> socket.socket:
        transport = self.transport
        self.timeout = min(self.timeout, transport.account.seconds_left())
        # A proxy is the user's choice, by the environment: its address is not checked.
        if self.proxy or "socks" in type(self).__name__.lower():
            return _MeteredSocket(super()._new_conn(), transport)  # type: ignore[misc]
        return _MeteredSocket(self._connect(), transport)

    def _connect(self) -> socket.socket:
        """Connect to the first of the host's addresses that answers and is in an allowed zone.

        The checked numeric address is the one that is connected to: the name is resolved once."""
        transport = self.transport
        try:
            answers = socket.getaddrinfo(self._dns_host, self.port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise urllib3.exceptions.NameResolutionError(self._dns_host, self, error) from error  # type: ignore[arg-type]
        except UnicodeError:
            raise DownloadError("a host's name that cannot be") from None
        numeric = list(dict.fromkeys(str(answer[4][0]) for answer in answers))

        failure: Exception = DownloadError("a host without an address")
        for address in numeric:
            try:
                transport.zone = check_zone(address, transport.nearest)
                return urllib3_connection.create_connection(
                    (address, self.port),
                    min(self.timeout, transport.account.seconds_left()),
                    socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
                )
            except TimeoutError:
                transport.account.check()
                failure = urllib3.exceptions.ConnectTimeoutError(self, "no connection in time")
            except OSError as error:
                failure = urllib3.exceptions.NewConnectionError(self, str(error))  # type: ignore[arg-type]
                failure.__cause__ = error
            except DownloadError as error:
                failure = error
        raise failure


class _MeteredSocket(socket.socket):
    """A connected socket that reports received bytes to the transport, and waits at most as long as
    the budget allows."""

    def __init__(self, connected: socket.socket, transport: Transport) -> None:
        timeout = connected.gettimeout()
        super().__init__(connected.family, connected.type, connected.proto, connected.detach())
        self._transport = transport
        self.settimeout(timeout)

    def recv(self, size: int, flags: int = 0) -> bytes:
        data: bytes = self._limited(super().recv, size, flags)
        self._transport.received(len(data))
        return data

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        count: int = self._limited(super().recv_into, buffer, nbytes, flags)
        self._transport.received(count)
        return count

    def sendall(self, data: Any, flags: int = 0) -> None:
        self._limited(super().sendall, data, flags)

    def _limited(self, call: Any, *arguments: Any) -> Any:
        timeout = self.gettimeout()
        remaining = self._transport.account.seconds_left()
        if timeout is not None and timeout <= remaining:
            return call(*arguments)
        self.settimeout(remaining)
        try:
            return call(*arguments)
        except TimeoutError:
            self._transport.account.seconds_left()  # raises BudgetSpent if the budget ended
            raise
        finally:
            self.settimeout(timeout)


def _tls() -> ssl.SSLContext:
    context = _Context(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


class _Context(ssl.SSLContext):
    """TLS in memory over a metered socket: TLS on the descriptor would bypass the meter."""

    def wrap_socket(self, sock: Any, *_: Any, server_hostname: Any = None, **__: Any) -> Any:
        return SSLTransport(sock, self, server_hostname)
