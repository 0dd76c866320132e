"""The server of `seqline serve` without a model: what it refuses, over real connections on
loopback."""

import json
import logging
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import uvicorn

from pipeline.serving import http_protocol, http_server


class Model:
    """A model that answers each text with itself, once `free` is set."""

    def __init__(self) -> None:
        self.free, self.begun = threading.Event(), threading.Semaphore(0)
        self.free.set()
        self.requests: list[tuple[Sequence[Any], Mapping[str, Any]]] = []

    def answer(self, texts: Sequence[Any], params: Mapping[str, Any]) -> list[dict[str, Any]]:
        self.requests.append((list(texts), dict(params)))
        self.begun.release()
        self.free.wait()
        return [{"text": text} for text in texts]


@contextmanager
def running(model: Model) -> Iterator[int]:
    """Run the server; yield its port."""
    with socket.create_server((http_server.HOST, 0)) as probe:
        port = probe.getsockname()[1]
    served = uvicorn.Server(
        http_server.configuration(
            http_server.App(model.answer, http_server.hosts(port, ["proxy.example"])), port
        )
    )
    thread = threading.Thread(target=served.run)
    thread.start()
    try:
        while not served.started and thread.is_alive():
            time.sleep(0.01)
        assert served.started
        yield port
    finally:
        model.free.set()
        served.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[Model, int]]:
    model = Model()
    with running(model) as port:
        yield model, port


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing that a client sends is logged as a fault of ours."""
    with caplog.at_level(logging.WARNING):
        yield
    assert [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.ERROR or record.exc_info
    ] == []


def exchanged(port: int, sent: bytes) -> bytes:
    """Send bytes; return all that comes back until the server hangs up."""
    with socket.create_connection((http_server.HOST, port), timeout=60) as connection:
        with suppress(ConnectionError):  # it may have hung up before it has read all
            connection.sendall(sent)
        parts = []
        with suppress(ConnectionError):
            while part := connection.recv(1 << 16):
                parts.append(part)
    return b"".join(parts)


def parsed(answer: bytes) -> tuple[int, Any]:
    """Return status and body; every answer is JSON in one line."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/json" in head.lower()
    assert b"access-control-allow" not in head.lower()
    assert body.count(b"\n") == 0
    assert b"Traceback" not in body
    return int(head.split()[1]), json.loads(body)


def posted(port: int, body: bytes, **headers: str) -> tuple[int, Any]:
    """Return the answer to a POST; a keyword such as `content_type` is a header, None for none."""
    named = {"host": f"127.0.0.1:{port}", "content-type": "application/json", "connection": "close"}
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{name}: {value}" for name, value in named.items() if value is not None]
    head = "\r\n".join(
        ["POST /invocations HTTP/1.1", *lines, f"content-length: {len(body)}", "", ""]
    )
    return parsed(exchanged(port, head.encode() + body))


TEXTS = ["a", "b"]


@pytest.mark.parametrize(
    "content",
    [
        {"inputs": TEXTS},
        {"instances": TEXTS},
        {"inputs": {"text": TEXTS}},
        {"inputs": [["a"], ["b"]]},
        {"dataframe_split": {"columns": ["text"], "data": [["a"], ["b"]]}},
        {"dataframe_split": {"index": [0, 1], "data": ["a", "b"]}},
        {"dataframe_records": [{"text": "a"}, {"text": "b"}]},
    ],
)
def test_each_form_of_mlflows_requests_is_read(content: dict[str, Any], shared) -> None:
    model, port = shared
    body = json.dumps(content | {"params": {"n_best": 2}}).encode()
    assert posted(port, body) == (200, {"predictions": [{"text": "a"}, {"text": "b"}]})
    assert model.requests[-1] == (TEXTS, {"n_best": 2})


def test_a_column_of_csv_is_read_with_its_blank_lines_and_words_like_null(shared) -> None:
    model, port = shared
    status, _ = posted(
        port, b'text\nnull\n\nNA\n"a, b"\n12\n', content_type="text/csv; charset=utf-8"
    )
    assert (status, model.requests[-1]) == (200, (["null", "", "NA", "a, b", "12"], {}))


def test_values_come_to_the_model_as_they_were_sent(shared) -> None:
    model, port = shared
    posted(port, b'{"inputs": [null, 1, true, "x"], "params": {"n_best": "3"}}')
    assert model.requests[-1] == ([None, 1, True, "x"], {"n_best": "3"})


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (b"", "body: got invalid JSON"),
        (b"nonsense\n", "body: got invalid JSON"),
        (b'["a"]', "body: got a list; expected an object"),
        (b"{}", "body: got no texts; expected exactly one of the keys inputs"),
        (
            b'{"inputs": ["a"], "instances": ["a"]}',
            "body: got inputs and instances; expected exactly one",
        ),
        (b'{"input": ["a"]}', "body: got the unknown key 'input'; expected one of inputs, "),
        (b'{"input": ["a"]}', "Did you mean 'inputs'?"),
        (b'{"inputs": ["a"], "inputs": ["b"]}', "body: got a key twice"),
        (b'{"inputs": ["a"], "params": [1]}', "params: got a list; expected an object"),
        (b'{"inputs": ["a", NaN]}', "body: got NaN; expected JSON"),
        (b'{"inputs": [-Infinity]}', "body: got -Infinity; expected JSON"),
        (b'{"inputs": 3}', "inputs: got a number; expected a list of texts"),
        (b'{"inputs": null}', "inputs: got null; expected a list of texts"),
        (b'{"inputs": [["a", "b"]]}', "inputs[0]: got 2 columns (a, b); expected one column"),
        (
            b'{"inputs": {"id": ["1"], "text": ["a"]}}',
            "inputs: got 2 columns (id, text); expected one column",
        ),
        (
            b'{"dataframe_records": [{"id": "1", "text": "a"}]}',
            "dataframe_records[0]: got 2 columns (id, text)",
        ),
        (
            b'{"dataframe_split": {"columns": ["id", "text"], "data": []}}',
            "dataframe_split: got 2 columns (id, text)",
        ),
        (b'{"dataframe_split": {"column": ["text"]}}', "Did you mean 'columns'?"),
        (b'{"inputs": [' + b"1" * 5000 + b"]}", "body: got a number of 5000 digits"),
        (b"[" * 500_000, "body: got JSON that is nested too deep"),
        (b'{"inputs": ' * 50_000, "body: got JSON that is nested too deep"),
        (b'{"inputs": ["caf\xe9"]}', "body: got byte 0xe9 at 16; expected UTF-8"),
        ('{"inputs": ["a"]}'.encode("utf-16"), "body: got byte 0xff at 0; expected UTF-8"),
        (b'{"inputs": ["a"]} {"inputs": ["b"]}', "body: got invalid JSON"),
    ],
    ids=range(24),
)
def test_a_body_that_is_no_request_is_refused_in_one_line(
    body: bytes, line: str, shared, quiet
) -> None:
    status, answer = posted(shared[1], body)
    assert (status, answer["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert line in answer["message"]
    assert len(answer["message"]) < 400


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"host": "localhost:{port}"}, 200),
        ({"host": "[::1]:{port}"}, 200),
        ({"host": "proxy.example"}, 200),
        ({"host": "LOCALHOST:{port}", "origin": "http://localhost:{port}"}, 200),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"content-type": "application/json; charset=utf-8"}, 200),
        ({"host": "attacker.example:{port}"}, 403),
        ({"host": "localhost"}, 403),
        ({"host": "localhost:{port}.attacker.example"}, 403),
        ({"host": "127.0.0.1:{port}@attacker.example"}, 403),
        ({"host": ""}, 403),
        ({"origin": "http://attacker.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
        ({"content-type": "multipart/form-data; boundary=x"}, 415),
        ({"content-type": "application/vnd.apache.parquet"}, 415),
        ({"content-type": None}, 415),
        ({"content-type": "application/json; charset=utf-16"}, 415),
        ({"content-encoding": "gzip"}, 415),
    ],
)
def test_only_requests_meant_for_this_server_are_answered(
    headers: dict[str, Any], status: int, shared, quiet
) -> None:
    port = shared[1]
    filled = {name: value and value.format(port=port) for name, value in headers.items()}
    actual, answer = posted(port, b'{"inputs": ["a"]}', **filled)
    assert (actual, "predictions" in answer) == (status, status == 200)


@pytest.mark.parametrize(
    ("start", "status"),
    [
        ("OPTIONS /invocations", 405),
        ("GET /invocations", 405),
        ("POST /ping", 405),
        ("GET /docs", 404),
        ("GET /openapi.json", 404),
        ("GET /../../etc/passwd", 404),
    ],
)
def test_other_paths_and_methods_are_refused(start: str, status: int, shared, quiet) -> None:
    port = shared[1]
    answer = exchanged(
        port, f"{start} HTTP/1.1\r\nhost: localhost:{port}\r\nconnection: close\r\n\r\n".encode()
    )
    assert parsed(answer)[0] == status


HEAD = "POST /invocations HTTP/1.1\r\nhost: localhost:{port}\r\ncontent-type: application/json\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        HEAD + f"content-length: {'9' * 5000}\r\n\r\n",
        HEAD + "content-length: -1\r\n\r\n",
        HEAD + "content-length: 1\r\ncontent-length: 2\r\n\r\n",
        HEAD + "content-length: \u0663\r\n\r\n",
        HEAD + "transfer-encoding: gzip\r\n\r\n",
        HEAD + "transfer-encoding: chunked\r\n\r\nzz\r\n",
        HEAD + f"transfer-encoding: chunked\r\n\r\n{'f' * 5000}\r\n",
        HEAD + "host: attacker.example\r\ncontent-length: 0\r\n\r\n",
        HEAD + f"x: {'y' * 100_000}\r\n\r\n",
        HEAD + "x: y\r\n" * 20_000 + "\r\n",
        "POST /invocations HTTP/1.1\r\ncontent-length: 0\r\n\r\n",
        f"GET /{'a' * 100_000} HTTP/1.1\r\n\r\n",
        "GET /\x1b[2J HTTP/1.1\r\n\r\n",
        "\x16\x03\x01\x02\x00\r\n\r\n",
        "nonsense\r\n\r\n",
    ],
    ids=range(15),
)
def test_a_hostile_head_gets_status_400_and_no_traceback(sent: str, shared, quiet, capfd) -> None:
    port = shared[1]
    status, answer = parsed(exchanged(port, sent.replace("{port}", str(port)).encode()))
    assert (status in (400, 431), answer["error_code"]) == (True, "BAD_REQUEST")
    assert posted(port, b'{"inputs": ["a"]}')[0] == 200
    assert "Traceback" not in "".join(capfd.readouterr())


def test_oversized_body_is_refused_by_header_and_by_actual_size(shared, quiet) -> None:
    port = shared[1]
    head = HEAD.replace("{port}", str(port)).encode()
    stated = exchanged(
        port, head + f"content-length: {http_server.LARGEST_BODY + 1}\r\n\r\n".encode()
    )
    assert parsed(stated)[0] == 413
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    chunked = exchanged(port, head + b"transfer-encoding: chunked\r\n\r\n" + chunk * 40)
    # the answer is lost if more was sent than the server read
    assert chunked == b"" or parsed(chunked)[0] == 413


def test_more_texts_than_the_limit_are_refused(shared, quiet) -> None:
    status, answer = posted(
        shared[1], json.dumps({"inputs": ["a"] * (http_server.MOST_TEXTS + 1)}).encode()
    )
    assert (status, "got 1001 texts; expected at most 1000" in answer["message"]) == (413, True)
    assert (
        posted(shared[1], json.dumps({"inputs": ["a"] * http_server.MOST_TEXTS}).encode())[0] == 200
    )


def test_stalled_clients_are_disconnected_and_block_no_others(
    monkeypatch: pytest.MonkeyPatch, quiet
) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 1.0)
    monkeypatch.setattr(http_server, "BODY_SECONDS", 1.0)
    with running(Model()) as port:
        head = HEAD.replace("{port}", str(port)).encode()
        parts = (b"", b"POST /invo", head, head + b"content-length: 20\r\n\r\n{")
        connections = [
            socket.create_connection((http_server.HOST, port), timeout=60) for _ in parts
        ]
        for connection, sent in zip(connections, parts, strict=True):
            connection.sendall(sent)
        assert posted(port, b'{"inputs": ["a"]}')[0] == 200
        for connection in connections:
            with connection, connection.makefile("rb") as file:
                assert parsed(file.read())[0] == 408


def test_connections_beyond_the_limit_are_refused(monkeypatch: pytest.MonkeyPatch, quiet) -> None:
    monkeypatch.setattr(http_protocol, "CONNECTIONS", 2)
    with running(Model()) as port:
        ping = f"GET /ping HTTP/1.1\r\nhost: localhost:{port}\r\n\r\n".encode()
        connections = [
            socket.create_connection((http_server.HOST, port), timeout=60) for _ in range(2)
        ]
        for connection in connections:
            connection.sendall(ping)
            assert b" 200 " in connection.recv(1 << 16)
        assert parsed(exchanged(port, b""))[0] == 503
        for connection in connections:
            connection.close()


def test_work_beyond_its_time_and_requests_beyond_the_limit_are_refused(
    monkeypatch: pytest.MonkeyPatch, quiet
) -> None:
    monkeypatch.setattr(http_server, "CONCURRENT", 1)
    monkeypatch.setattr(http_server, "QUEUED", 0)
    monkeypatch.setattr(http_server, "WORK_SECONDS", 1.0)
    model = Model()
    model.free.clear()
    with running(model) as port:
        answers: list[tuple[int, Any]] = []
        first = threading.Thread(target=lambda: answers.append(posted(port, b'{"inputs": ["a"]}')))
        first.start()
        assert model.begun.acquire(timeout=60)
        assert posted(port, b'{"inputs": ["b"]}')[0] == 503  # while the first is at work
        first.join()
        assert answers[0][0] == 504
        assert posted(port, b'{"inputs": ["b"]}')[0] == 503  # its thread is still at work
        model.free.set()
        while posted(port, b'{"inputs": ["c"]}')[0] != 200:
            time.sleep(0.05)
