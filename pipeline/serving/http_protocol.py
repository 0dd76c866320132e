"""HTTP/1.1 with limits: uvicorn's own protocol for a server that anyone on this machine, or a web
page, may try to block."""

import asyncio
import http
import json
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

# for the head of a request to arrive, after the opening of its connection or the last response
HEAD_SECONDS = 15.0
REQUEST_SECONDS = 180.0  # for a request and its response, with the time in the queue and of sending
CONNECTIONS = 200  # open at a time; each costs a file descriptor


def error_body(code: str, message: str) -> bytes:
    """Make the body of a refusal, as MLflow's server has it: JSON in one line."""
    return json.dumps({"error_code": code, "message": message}).encode()


class LimitedProtocol(H11Protocol):
    """HTTP/1.1 that ends slow connections, and refuses invalid requests with JSON."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the timers, unless there are too many connections."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self._timers: list[asyncio.TimerHandle] = []
        if len(self.connections) > CONNECTIONS:
            self.refuse(
                503,
                "TEMPORARILY_UNAVAILABLE",
                f"got more than {CONNECTIONS} connections; try again later.",
            )
            return
        self._start_timers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timers."""
        self._stop_timers()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Restart the timers for the next request of this connection."""
        super().on_response_complete()
        self._stop_timers()
        if self.transport.is_closing():
            # A client that does not read the response would keep the closed connection open.
            self._timers = [self.loop.call_later(HEAD_SECONDS, self.transport.abort)]
        else:
            self._start_timers()

    def send_400_response(self, msg: str) -> None:
        """Refuse a request that is not HTTP."""
        self.refuse(400, "BAD_REQUEST", "request: got invalid HTTP/1.1; expected a POST of JSON.")

    def refuse(self, status: int, code: str, message: str) -> None:
        """Send an error and hang up; only hang up if a response has started already."""
        if (
            self.cycle is not None
            and self.cycle.response_started
            and not self.cycle.response_complete
        ):
            self.transport.abort()
            return

        body = error_body(code, message)
        phrase = http.HTTPStatus(status).phrase
        head = (
            f"HTTP/1.1 {status} {phrase}\r\nconnection: close\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
        # `close` waits for the client to read: limit that too.
        self._timers.append(self.loop.call_later(HEAD_SECONDS, self.transport.abort))

    def _start_timers(self) -> None:
        cycle = self.cycle
        self._timers = [
            self.loop.call_later(HEAD_SECONDS, self._expect_head, cycle),
            self.loop.call_later(REQUEST_SECONDS, self.transport.abort),
        ]

    def _stop_timers(self) -> None:
        for timer in self._timers:
            timer.cancel()

    def _expect_head(self, last: Any) -> None:
        """Hang up if no request has come since the one of the cycle `last`."""
        if self.cycle is last and not self.transport.is_closing():
            self.refuse(
                408, "REQUEST_TIMEOUT", f"request: got no whole head within {HEAD_SECONDS:g} s."
            )
