"""The HTTP server of `seqline serve`: MLflow's protocol for one version, behind checks of who asks, for what and how much.

    POST /invocations   {"inputs": ["a text"], "params": {"n_best": 2}}   -> {"predictions": [...]}
    GET  /ping, /health, /version

It listens on loopback, which is no protection from web pages: a page may send requests to 127.0.0.1, and by DNS rebinding
under a name of its own. So only the Host names of this server are answered, no request that a page of another origin sends
(Origin, Sec-Fetch-Site), and no Content-Type that a page may send without asking first.
"""

import argparse
import asyncio
import csv
import difflib
import io
import itertools
import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import mlflow.pyfunc
import uvicorn
from mlflow.version import VERSION

from pipeline.errors import UserError, exit_with, printable, refuse
from pipeline.tracking.protocol import LimitedProtocol, error_body
from pipeline.tracking.served import Served

HOST = "127.0.0.1"
LARGEST_BODY = 1 << 20  # bytes
MOST_TEXTS = 1000
BODY_SECONDS = 30.0  # for the body of a request to arrive
WORK_SECONDS = 60.0
AT_WORK = 4  # requests computed at a time
WAITING = 32  # requests that wait for one of these
FORMS = ("inputs", "instances", "dataframe_split", "dataframe_records")  # MLflow's, each with the texts in its own way
_KEYS = (*FORMS, "params")
_LARGEST_HEAD = 16 << 10  # bytes

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]
Answer = Callable[[Sequence[Any], Mapping[str, Any]], list[dict[str, Any]]]


class Refused(Exception):
    """A request that is not answered: HTTP's status, MLflow's code for it, and one line."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, printable(message)


class Request(NamedTuple):
    """What a body asks for, as it stands there: its values are not checked yet."""

    texts: list[Any]
    params: dict[str, Any]


class App:
    """The ASGI application; `answer` may raise UserError for texts and params that it cannot take."""

    def __init__(self, answer: Answer, hosts: Iterable[str]) -> None:
        self._answer = answer
        self._hosts = frozenset(host.lower() for host in hosts)
        self._at_work = asyncio.Semaphore(AT_WORK)
        self._waiting = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        close = False
        try:
            status, body = 200, await self._respond(scope, receive)
        except Refused as refused:
            status, body, close = refused.status, error_body(refused.status, refused.code, refused.message), True
        except UserError as error:
            status, body = 400, error_body(400, "INVALID_PARAMETER_VALUE", str(error))
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"x-content-type-options", b"nosniff"),
            *([(b"connection", b"close")] if close else []),  # the rest of the body is not read
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _respond(self, scope: Scope, receive: Receive) -> bytes:
        headers = _headers(scope)
        check_sender(headers, self._hosts)
        path, method = str(scope["path"]), str(scope["method"])
        if path in ("/ping", "/health", "/version"):
            _expect_method(method, ("GET", "HEAD"))
            return VERSION.encode() if path == "/version" else b"\n"
        if path != "/invocations":
            raise Refused(404, "RESOURCE_DOES_NOT_EXIST", f"path: got {path[:60]}; expected /invocations.")
        _expect_method(method, ("POST",))
        read = reader(headers)
        request = read(await _body(headers, receive))
        if len(request.texts) > MOST_TEXTS:
            got = f"inputs: got {len(request.texts)} texts; expected at most {MOST_TEXTS}. Send several requests."
            raise Refused(413, "BAD_REQUEST", got)
        rows = await self._work(request)
        return json.dumps({"predictions": rows}).encode()

    async def _work(self, request: Request) -> list[dict[str, Any]]:
        """The answer's rows, computed in a thread while no more than `AT_WORK` others are."""
        if self._at_work.locked() and self._waiting >= WAITING:
            raise Refused(503, "TEMPORARILY_UNAVAILABLE", "request: got too many at a time; try again later.")
        self._waiting += 1
        try:
            await self._at_work.acquire()
        finally:
            self._waiting -= 1

        # The thread frees its place when it ends, which is after the answer where the time is over.
        work = asyncio.get_running_loop().run_in_executor(None, self._answer, *request)
        work.add_done_callback(lambda _: self._at_work.release())
        work.add_done_callback(lambda done: done.exception())  # which nobody waits for any more
        try:
            return await asyncio.wait_for(asyncio.shield(work), WORK_SECONDS)
        except TimeoutError:
            message = f"request: got more work than {WORK_SECONDS:g} s allow; expected less. Send fewer or shorter texts."
            raise Refused(504, "DEADLINE_EXCEEDED", message) from None


def check_sender(headers: Mapping[str, str], hosts: frozenset[str]) -> None:
    """Refuse a request that was meant for another server, or that a web page of another origin made a browser send."""
    host = headers.get("host", "").lower()
    if host not in hosts:
        expected = ", ".join(sorted(hosts))
        message = f"Host: got {host[:100]!r}; expected one of {expected}. See `seqline serve --help` for --allow-host."
        raise Refused(403, "PERMISSION_DENIED", message)
    origin = headers.get("origin")
    if origin is not None and origin.lower().partition("://")[2] not in hosts:
        raise Refused(403, "PERMISSION_DENIED", f"Origin: got {origin[:100]!r}; expected none, or this server's own.")
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        raise Refused(403, "PERMISSION_DENIED", "Sec-Fetch-Site: got a page of another site; expected none.")


def reader(headers: Mapping[str, str]) -> Callable[[bytes], Request]:
    """What reads a body of this Content-Type; Refused for one that is not known."""
    kind, *parameters = [part.strip().lower() for part in headers.get("content-type", "").split(";")]
    readers = {"application/json": read_json, "text/csv": read_csv}
    if kind not in readers:
        got = f"Content-Type: got {kind[:60] or 'none'}; expected application/json or text/csv."
        raise Refused(415, "BAD_REQUEST", got)
    for parameter in parameters:
        if parameter.replace('"', "") not in ("charset=utf-8", "charset=utf8"):
            raise Refused(415, "BAD_REQUEST", f"Content-Type: got {parameter[:60]}; expected charset=utf-8 or nothing.")
    if (encoding := headers.get("content-encoding", "identity").lower()) != "identity":
        raise Refused(415, "BAD_REQUEST", f"Content-Encoding: got {encoding[:60]}; expected none.")
    return readers[kind]


def read_json(body: bytes) -> Request:
    """The request in a body of JSON; UserError for what is none, and for keys that no request has."""
    content = _parsed(_decoded(body))
    if not isinstance(content, dict):
        raise refuse("body", _kind(content), f"an object with one of the keys {', '.join(FORMS)}")
    for key in content:
        if key not in _KEYS:
            raise _unknown("body", key, _KEYS)
    forms = [key for key in content if key in FORMS]
    if len(forms) != 1:
        raise refuse("body", " and ".join(forms) or "no texts", f"exactly one of the keys {', '.join(FORMS)}")

    params = content.get("params")
    if params is not None and not isinstance(params, dict):
        raise refuse("params", _kind(params), "an object")
    return Request(texts_of(forms[0], content[forms[0]]), params or {})


def texts_of(form: str, value: Any) -> list[Any]:
    """The one column of a request in one of MLflow's forms; UserError if there are more columns, or it is no table."""
    if form == "dataframe_split":
        return _split_texts(form, value)
    if isinstance(value, dict) and form != "dataframe_records":
        # {"text": ["a", "b"]}: columns by name.
        [value] = _only(form, list(value.values()), list(value))
        return value if isinstance(value, list) else [value]
    if not isinstance(value, list):
        if form == "inputs" and isinstance(value, str):
            return [value]
        raise refuse(form, _kind(value), "a list of texts")
    if form != "dataframe_records" and not any(isinstance(row, dict | list) for row in value):
        return value
    return [_cell(f"{form}[{number}]", row) for number, row in enumerate(value)]


def _split_texts(form: str, value: Any) -> list[Any]:
    if not isinstance(value, dict):
        raise refuse(form, _kind(value), "an object with the keys columns and data")
    keys = ("columns", "index", "data")
    for key in value:
        if key not in keys:
            raise _unknown(form, key, keys)
    columns, rows = value.get("columns"), value.get("data")
    if columns is not None:
        _only(form, columns if isinstance(columns, list) else [], columns if isinstance(columns, list) else [])
    if not isinstance(rows, list):
        raise refuse(f"{form}.data", _kind(rows), "a list of rows")
    return [_cell(f"{form}.data[{number}]", row) for number, row in enumerate(rows)]


def _cell(where: str, row: Any) -> Any:
    """The one value of a row."""
    if isinstance(row, dict):
        return _only(where, list(row.values()), list(row))[0]
    if isinstance(row, list):
        return _only(where, row, row)[0]
    return row


def _only(where: str, values: list[Any], names: list[Any]) -> list[Any]:
    if len(values) != 1:
        named = ", ".join(str(name)[:30] for name in names[:5])
        raise refuse(where, f"{len(values)} columns{f' ({named})' if named else ''}", "one column, of texts")
    return values


def read_csv(body: bytes) -> Request:
    """The request in a body of CSV: a name for the column, and a text a row."""
    rows = csv.reader(io.StringIO(_decoded(body), newline=""), strict=True)
    try:
        table = [row or [""] for row in rows]
    except csv.Error as error:
        raise refuse("body", "what is no CSV", f"a column of texts ({error})") from None
    if not table:
        raise refuse("body", "nothing", "a name for the column, then a text a line")
    return Request([_cell(f"line {number}", row) for number, row in enumerate(table, 1)][1:], {})


def _parsed(text: str) -> Any:
    """JSON as its standard has it: every key once, no NaN, and no deeper or longer than anything that a request needs."""
    try:
        return json.loads(text, object_pairs_hook=_without_repeats, parse_constant=_refuse_constant, parse_int=_whole)
    except RecursionError:
        raise refuse("body", "JSON that is nested too deep", "an object with a list of texts") from None
    except json.JSONDecodeError as error:
        raise refuse("body", f"what is no JSON ({error.msg}, character {error.pos})", "JSON") from None


def _whole(digits: str) -> int:
    if len(digits) > 30:
        raise refuse("body", f"a number of {len(digits)} digits", "at most 30")
    return int(digits)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise refuse("body", "a key twice in one object", "each key once")
    return content


def _refuse_constant(name: str) -> Any:
    raise refuse("body", name, "JSON, which has no such number")


def _decoded(body: bytes) -> str:
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise refuse("body", f"byte {body[error.start]:#04x} at {error.start}", "UTF-8") from None


def _unknown(where: str, key: str, known: Sequence[str]) -> UserError:
    close = difflib.get_close_matches(key, known, 1)
    todo = f"Did you mean {close[0]!r}?" if close else "Remove it."
    return refuse(where, f"the unknown key {key[:60]!r}", f"one of {', '.join(known)}", todo)


def _kind(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    kinds: dict[Any, str] = {dict: "an object", list: "a list", str: "a text"}
    return kinds.get(type(value), "a number")


def _headers(scope: Scope) -> dict[str, str]:
    """By name in lower case; Refused for one that says twice who asks or what is sent, and where there are too many."""
    found: dict[str, str] = {}
    words = (scope["raw_path"], scope["query_string"], *itertools.chain(*scope["headers"]))
    size = sum(map(len, words))
    if size > _LARGEST_HEAD:
        raise Refused(431, "BAD_REQUEST", f"head: got {size} bytes; expected at most {_LARGEST_HEAD}.")
    for name, value in scope["headers"]:
        key = name.decode("latin-1").lower()
        if key in found and key in ("host", "origin", "content-type", "content-encoding"):
            raise Refused(400, "BAD_REQUEST", f"{key}: got it twice; expected it once.")
        found[key] = value.decode("latin-1").strip()
    return found


def _expect_method(method: str, known: Sequence[str]) -> None:
    if method not in known:
        raise Refused(405, "BAD_REQUEST", f"method: got {method[:20]}; expected {' or '.join(known)}.")


async def _body(headers: Mapping[str, str], receive: Receive) -> bytes:
    """The whole body; Refused if it is too large, whatever its head says, or too slow."""
    large = Refused(413, "BAD_REQUEST", f"body: got more than {LARGEST_BODY} bytes; expected fewer. Send several requests.")
    stated = headers.get("content-length", "0")
    if not stated.isdecimal() or len(stated) > 20 or int(stated) > LARGEST_BODY:
        raise large
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise Refused(400, "BAD_REQUEST", "body: got a part of it; expected all.")
                body += message.get("body", b"")
                if len(body) > LARGEST_BODY:
                    raise large
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError:
        message_ = f"body: got a part of it within {BODY_SECONDS:g} s; expected all."
        raise Refused(408, "REQUEST_TIMEOUT", message_) from None


def hosts(port: int, others: Iterable[str]) -> list[str]:
    """The values of Host to answer: the names of loopback with the port, and `others`, such as a proxy's."""
    names = ("127.0.0.1", "localhost", "[::1]")
    return [f"{name}:{port}" for name in names] + ([*names] if port == 80 else []) + list(others)


def served(uri: str) -> Answer:
    """What answers for the version at `uri`; params that a request leaves out are as the version's signature has them."""
    model = mlflow.pyfunc.load_model(uri)
    schema = model.metadata.get_params_schema()
    defaults = {param.name: param.default for param in schema.params} if schema else {}
    python_model = model.unwrap_python_model()
    if not isinstance(python_model, Served):
        raise refuse("model", uri, "a version that this project registered", "See `seqline champions`.")
    return lambda texts, params: python_model.answer(texts, defaults | dict(params), WORK_SECONDS)


def main() -> None:
    """Serve a version until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("uri")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--allow-host", action="append", default=[])
    arguments = parser.parse_args()
    app = App(served(arguments.uri), hosts(arguments.port, arguments.allow_host))
    uvicorn.Server(configuration(app, arguments.port)).run()


def configuration(app: App, port: int) -> uvicorn.Config:
    """uvicorn with this module's limits, and without what it would log of a request."""
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # of connections that went away
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
