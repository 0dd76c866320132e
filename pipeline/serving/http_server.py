"""The HTTP server of `seqline serve`, and of `seqline demo` (demo.py): MLflow's protocol for one
version, behind checks of each request's sender and size.

    POST /invocations   {"inputs": ["a text"], "params": {"n_best": 2}}   -> {"predictions": [...]}
    GET  /ping, /health, /version

It listens on loopback, which is no protection from web pages: a page may send requests to
127.0.0.1, and by DNS rebinding under a name of its own. So the server refuses other Host names than
its own, requests by pages of another origin (Origin, Sec-Fetch-Site), and every Content-Type that a
page may send without a CORS preflight."""

import argparse
import asyncio
import itertools
import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import uvicorn

from pipeline.core.errors import UserError, exit_with, printable
from pipeline.serving.http_protocol import LimitedProtocol, error_body
from pipeline.serving.request_body import Request, read_csv, read_json
from pipeline.tracking.served import MLFLOW_VERSION, load_version

HOST = "127.0.0.1"
LARGEST_BODY = 1 << 20  # bytes
MOST_TEXTS = 1000
BODY_SECONDS = 30.0  # for the body of a request to arrive
WORK_SECONDS = 60.0
CONCURRENT = 4  # requests computed at a time
QUEUED = 32  # requests that wait for one of these
_LARGEST_HEAD = 16 << 10  # bytes

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]
Answer = Callable[[Sequence[Any], Mapping[str, Any]], list[dict[str, Any]]]


class Refused(Exception):
    """A refusal of a request: HTTP's status, MLflow's code for it, and one line."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, printable(message)


class Page(NamedTuple):
    """A response to GET: its body, Content-Type, and further headers."""

    body: bytes
    kind: str = "application/json"
    headers: tuple[tuple[bytes, bytes], ...] = ()


STATE_PAGES = {
    "/ping": Page(b"\n"),
    "/health": Page(b"\n"),
    "/version": Page(MLFLOW_VERSION.encode()),
}


class App:
    """The ASGI application; `answer` may raise UserError for texts and params that it cannot
    take.

    `pages`: responses to GET by path. `concurrent`: requests computed at a time; `queued`: requests
    that wait for one of these; None is this module's limit."""

    def __init__(
        self,
        answer: Answer,
        hosts: Iterable[str],
        pages: Mapping[str, Page] = STATE_PAGES,
        concurrent: int | None = None,
        queued: int | None = None,
    ) -> None:
        self._answer = answer
        self._pages = pages
        self._most_queued = QUEUED if queued is None else queued
        self._hosts = frozenset(host.lower() for host in hosts)
        self._slots = asyncio.Semaphore(CONCURRENT if concurrent is None else concurrent)
        self._queued = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        close = False
        try:
            status, page = 200, await self._respond(scope, receive)
        except Refused as error:
            status, page = error.status, Page(error_body(error.code, error.message))
            close = True
        except UserError as error:
            status, page = 400, Page(error_body("INVALID_PARAMETER_VALUE", str(error)))

        body = page.body
        headers = [
            (b"content-type", page.kind.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"x-content-type-options", b"nosniff"),
            *page.headers,
            *([(b"connection", b"close")] if close else []),  # the rest of the body is not read
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send(
            {"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body}
        )

    async def _respond(self, scope: Scope, receive: Receive) -> Page:
        headers = _headers(scope)
        check_sender(headers, self._hosts)

        path, method = str(scope["path"]), str(scope["method"])
        if path in self._pages:
            _expect_method(method, ("GET", "HEAD"))
            return self._pages[path]
        if path != "/invocations":
            raise Refused(
                404, "RESOURCE_DOES_NOT_EXIST", f"path: got {path[:60]}; expected /invocations."
            )
        _expect_method(method, ("POST",))

        request = reader(headers)(await _body(headers, receive))
        if len(request.texts) > MOST_TEXTS:
            message = (
                f"inputs: got {len(request.texts)} texts; expected at most {MOST_TEXTS}. "
                "Send several requests."
            )
            raise Refused(413, "BAD_REQUEST", message)
        rows = await self._work(request)
        return Page(json.dumps({"predictions": rows}).encode())

    async def _work(self, request: Request) -> list[dict[str, Any]]:
        """Compute the rows of the response in a thread; at most `concurrent` threads work at a
        time."""
        if self._slots.locked() and self._queued >= self._most_queued:
            raise Refused(
                503, "TEMPORARILY_UNAVAILABLE", "request: got too many at a time; try again later."
            )
        self._queued += 1
        try:
            await self._slots.acquire()
        finally:
            self._queued -= 1

        # The thread frees its slot when it ends, which is after the response in case of a timeout.
        work = asyncio.get_running_loop().run_in_executor(None, self._answer, *request)
        work.add_done_callback(lambda _: self._slots.release())
        # Retrieve the exception: asyncio would log one that comes after the response.
        work.add_done_callback(lambda future: future.exception())
        try:
            return await asyncio.wait_for(asyncio.shield(work), WORK_SECONDS)
        except TimeoutError:
            message = (
                f"request: got more work than {WORK_SECONDS:g} s allow; expected less. "
                "Send fewer or shorter texts."
            )
            raise Refused(504, "DEADLINE_EXCEEDED", message) from None


def check_sender(headers: Mapping[str, str], hosts: frozenset[str]) -> None:
    """Refuse a request for another server, or one that a web page of another origin made a browser
    send."""
    host = headers.get("host", "").lower()
    if host not in hosts:
        expected = ", ".join(sorted(hosts))
        message = (
            f"Host: got {host[:100]!r}; expected one of {expected}. See --allow-host of "
            "`seqline serve` and `seqline demo`."
        )
        raise Refused(403, "PERMISSION_DENIED", message)

    origin = headers.get("origin")
    if origin is not None and origin.lower().partition("://")[2] not in hosts:
        raise Refused(
            403,
            "PERMISSION_DENIED",
            f"Origin: got {origin[:100]!r}; expected none, or this server's own.",
        )
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        raise Refused(
            403, "PERMISSION_DENIED", "Sec-Fetch-Site: got a page of another site; expected none."
        )


def reader(headers: Mapping[str, str]) -> Callable[[bytes], Request]:
    """Return the function that reads a body of this Content-Type; Refused for any other type."""
    kind, *parameters = [
        part.strip().lower() for part in headers.get("content-type", "").split(";")
    ]
    readers = {"application/json": read_json, "text/csv": read_csv}
    if kind not in readers:
        message = f"Content-Type: got {kind[:60] or 'none'}; expected application/json or text/csv."
        raise Refused(415, "BAD_REQUEST", message)

    for parameter in parameters:
        if parameter.replace('"', "") not in ("charset=utf-8", "charset=utf8"):
            raise Refused(
                415,
                "BAD_REQUEST",
                f"Content-Type: got {parameter[:60]}; expected charset=utf-8 or nothing.",
            )
    if (encoding := headers.get("content-encoding", "identity").lower()) != "identity":
        raise Refused(415, "BAD_REQUEST", f"Content-Encoding: got {encoding[:60]}; expected none.")
    return readers[kind]


def _headers(scope: Scope) -> dict[str, str]:
    """Return the headers by name in lower case; Refused if there are too many, or one that is
    checked comes twice."""
    headers: dict[str, str] = {}
    words = (scope["raw_path"], scope["query_string"], *itertools.chain(*scope["headers"]))
    size = sum(map(len, words))
    if size > _LARGEST_HEAD:
        raise Refused(
            431, "BAD_REQUEST", f"head: got {size} bytes; expected at most {_LARGEST_HEAD}."
        )

    for name, value in scope["headers"]:
        key = name.decode("latin-1").lower()
        if key in headers and key in ("host", "origin", "content-type", "content-encoding"):
            raise Refused(400, "BAD_REQUEST", f"{key}: got it twice; expected it once.")
        headers[key] = value.decode("latin-1").strip()
    return headers


def _expect_method(method: str, allowed: Sequence[str]) -> None:
    if method not in allowed:
        raise Refused(
            405, "BAD_REQUEST", f"method: got {method[:20]}; expected {' or '.join(allowed)}."
        )


async def _body(headers: Mapping[str, str], receive: Receive) -> bytes:
    """Receive the body; Refused if it is too large, whatever its head says, or too slow."""
    too_large = Refused(
        413,
        "BAD_REQUEST",
        f"body: got more than {LARGEST_BODY} bytes; expected fewer. Send several requests.",
    )
    stated = headers.get("content-length", "0")
    if not stated.isdecimal() or len(stated) > 20 or int(stated) > LARGEST_BODY:
        raise too_large

    # A chunked body states no length: count what arrives.
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise Refused(400, "BAD_REQUEST", "body: got a part of it; expected all.")
                body += message.get("body", b"")
                if len(body) > LARGEST_BODY:
                    raise too_large
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError:
        error = f"body: got a part of it within {BODY_SECONDS:g} s; expected all."
        raise Refused(408, "REQUEST_TIMEOUT", error) from None


def hosts(port: int, allowed: Iterable[str]) -> list[str]:
    """Return the accepted values of Host: the names of loopback with the port, and `allowed`, such
    as a proxy's."""
    names = ["127.0.0.1", "localhost", "[::1]"]
    # Clients leave out the default port.
    return [*(f"{name}:{port}" for name in names), *(names if port == 80 else []), *allowed]


def main() -> None:
    """Serve a version until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("uri")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--allow-host", action="append", default=[])
    arguments = parser.parse_args()
    app = App(
        load_version(arguments.uri, WORK_SECONDS), hosts(arguments.port, arguments.allow_host)
    )
    uvicorn.Server(configuration(app, arguments.port)).run()


def configuration(app: App, port: int) -> uvicorn.Config:
    """Configure uvicorn with this module's limits, and without its logs of requests."""
    # asyncio logs every lost connection.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    return uvicorn.Config(
        app,
        host=HOST,
        port=port,
        http=LimitedProtocol,
        ws="none",
        lifespan="off",
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=5,
        h11_max_incomplete_event_size=_LARGEST_HEAD,
    )


if __name__ == "__main__":
    exit_with(main)
