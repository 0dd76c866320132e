"""HTTP/1.1 with limits: uvicorn's own protocol for a server that anyone on this machine, or a web page, may try to block."""

import asyncio
import http
import json
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 15.0  # for the head of a request to arrive, from the opening of its connection or the answer before
WHOLE_SECONDS = 180.0  # for a request with its answer, the waiting for other requests and the sending included
CONNECTIONS = 200  # open at a time; each costs a file descriptor


def error_body(status: int, code: str, message: str) -> bytes:
    """The body of every answer that is none, as MLflow's server has it: JSON in one line."""
    return json.dumps({"error_code": code, "message": message}).encode()


class LimitedProtocol(H11Protocol):
    """Ends connections that keep it waiting, and refuses what is no HTTP with JSON."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to count the time, unless there are too many connections."""
        super().connection_made(transport)  # type: ignore[arg-type] # of TCP it is one
        self._timers: list[asyncio.TimerHandle] = []
        if len(self.connections) > CONNECTIONS:
            self.refuse(503, "TEMPORARILY_UNAVAILABLE", f"got more than {CONNECTIONS} connections; try again later.")
            return
        self._start_timers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop counting."""
        self._stop_timers()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Count anew for the next request of this connection."""
        super().on_response_complete()
        self._stop_timers()
        if self.transport.is_closing():
            # What was sent and not yet read keeps a closed connection open.
            self._timers = [self.loop.call_later(HEAD_SECONDS, self.transport.abort)]
        else:
            self._start_timers()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP."""
        self.refuse(400, "BAD_REQUEST", "request: got what is no valid HTTP/1.1; expected a POST of JSON.")

    def refuse(self, status: int, code: str, message: str) -> None:
        """Answer without regard to the request, and hang up; only hang up where an answer is under way already."""
        if self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete:
            self.transport.abort()
            return
        body = error_body(status, code, message)
        phrase = http.HTTPStatus(status).phrase
        head = (
            f"HTTP/1.1 {status} {phrase}\r\nconnection: close\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
        self._timers.append(self.loop.call_later(HEAD_SECONDS, self.transport.abort))

    def _start_timers(self) -> None:
        waiting = self.cycle
        self._timers = [
            self.loop.call_later(HEAD_SECONDS, self._expect_head, waiting),
            self.loop.call_later(WHOLE_SECONDS, self.transport.abort),
        ]

    def _stop_timers(self) -> None:
        for timer in self._timers:
            timer.cancel()

    def _expect_head(self, before: Any) -> None:
        """Hang up if no request has come since `before`."""
        if self.cycle is before and not self.transport.is_closing():
            self.refuse(408, "REQUEST_TIMEOUT", f"request: got no whole head within {HEAD_SECONDS:g} s.")
