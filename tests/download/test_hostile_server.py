"""Downloads from servers that never end an answer, or send no HTTP: each is given up, with one
line."""

import re
from dataclasses import replace

import hostile_server
import pytest
from hostile_server import CHUNKED, OK, QUICK, TEXT, Answer, Desk, Exchange, Server, loose, pinned

from pipeline.download import fetch
from pipeline.download.budget import SHIPPED

desk, serve, server = hostile_server.desk, hostile_server.serve, hostile_server.server  # fixtures


# --- answers without end


ENDLESS: dict[str, Answer] = {
    "100 Continue": lambda exchange: exchange.forever(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
    "100 Continue with headers": lambda exchange: exchange.forever(
        b"HTTP/1.1 100 Continue\r\nA: b\r\n\r\n" * 1000
    ),
    "a status line": lambda exchange: exchange.forever(b"HTTP/1.1 200 " + b"x" * 60_000),
    "headers": lambda exchange: exchange.send(OK) and exchange.forever(b"X-A: b\r\n" * 1000),
    "a header": lambda exchange: exchange.send(OK + b"X-A: ") and exchange.forever(b"x" * 60_000),
    "trailers": lambda exchange: (
        exchange.send(CHUNKED + b"1\r\nx\r\n0\r\n") and exchange.forever(b"A: b\r\n" * 999)
    ),
    "a trailer": lambda exchange: (
        exchange.send(CHUNKED + b"1\r\nx\r\n0\r\n") and exchange.forever(b"x" * 60_000)
    ),
    "a chunk's size": lambda exchange: exchange.send(CHUNKED) and exchange.forever(b"1" * 60_000),
    "a chunk's extension": lambda exchange: (
        exchange.send(CHUNKED + b"1;") and exchange.forever(b"x" * 60_000)
    ),
    "a chunk of -1 bytes": lambda exchange: (
        exchange.send(CHUNKED + b"-1\r\n") and exchange.forever(b"x" * 60_000)
    ),
    "the body of an error": lambda exchange: (
        exchange.send(b"HTTP/1.1 404 No\r\n\r\n") and exchange.forever(b"x" * 60_000)
    ),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_an_endless_answer_is_left_after_a_little_of_it(
    name: str, server: Server, desk: Desk
) -> None:
    server.answer = ENDLESS[name]
    desk.refusal(pinned(server.url + "/a"))
    assert 1 <= server.connections <= QUICK.attempts
    assert sum(path.stat().st_size for path in desk.work.glob("*.part")) <= 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_the_body_of_a_redirect_is_not_read(status: int, server: Server, desk: Desk) -> None:
    def answer(exchange: Exchange) -> None:
        if exchange.path == "/a":
            exchange.file()
        else:
            exchange.send(b"HTTP/1.1 %d Moved\r\nLocation: /a\r\n\r\n" % status)
            exchange.forever(b"x" * 60_000)

    server.answer = answer
    desk.budget = replace(SHIPPED, bytes=2_000_000)
    assert desk.get(pinned(server.url + "/b")) == TEXT


def test_an_endless_file_is_left_when_the_budget_of_bytes_is_spent(
    server: Server, desk: Desk
) -> None:
    server.answer = lambda exchange: exchange.send(OK + b"\r\n") and exchange.forever(b"x" * 60_000)
    desk.budget = replace(SHIPPED, bytes=3_000_000)
    line = desk.refusal(loose(server.url + "/a"))
    assert "its source's budget of 3000000 bytes is spent" in line
    assert line.endswith(
        f"Raise download.bytes in flow.yaml, or delete {next(desk.work.glob('*.spent'))} to "
        "begin anew."
    )
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
def test_a_server_that_drips_is_left_when_the_budget_of_seconds_is_spent(
    name: str, server: Server, desk: Desk
) -> None:
    server.answer = lambda exchange: (
        exchange.send(DRIPS[name]) and exchange.forever(b"1", pause=0.02)
    )
    desk.budget = replace(SHIPPED, seconds=0.2)
    line = desk.refusal(pinned(server.url + "/a"))
    assert "its source's budget of 0.2 seconds is spent" in line
    assert "Raise download.seconds in flow.yaml, or delete " in line
    assert desk.spent()["seconds"] >= 0.2


def test_a_silent_server_is_left_when_the_budget_of_seconds_is_spent(
    server: Server, desk: Desk
) -> None:
    server.answer = lambda exchange: exchange.closing.wait(20)
    desk.budget = replace(SHIPPED, seconds=0.2)
    desk.patience = replace(QUICK, silence=1000.0)
    assert "its source's budget of 0.2 seconds is spent" in desk.refusal(pinned(server.url + "/a"))


def test_disconnecting_server_is_abandoned_after_the_request_budget(
    server: Server, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "_PROGRESS_BYTES", 1)

    def answer(exchange: Exchange) -> None:
        start = int(exchange.headers.get("range", "bytes=0-")[6:-1])
        head = (
            b"HTTP/1.1 206 Part\r\nContent-Range: bytes %d-1049/1050\r\n" % start if start else OK
        )
        exchange.send(
            head + b"Content-Length: %d\r\n\r\n" % (1050 - start) + TEXT[start : start + 10]
        )

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
def test_a_file_that_begins_anew_each_time_makes_no_progress(
    ranges: str, server: Server, desk: Desk
) -> None:
    def answer(exchange: Exchange) -> None:
        if "range" in exchange.headers and ranges == "416":
            exchange.send(b"HTTP/1.1 416 No\r\nContent-Length: 0\r\n\r\n")
        else:
            head = OK + b'ETag: "%d"\r\nContent-Length: 9000000\r\n\r\n' % exchange.number
            exchange.send(head + b"%d" % exchange.number * (2 << 20))

    server.answer = answer
    desk.budget = replace(SHIPPED, bytes=100_000_000)
    files = pinned(server.url + "/a"), pinned(server.url + "/a", data=bytes(9_000_000), name="b")
    assert f", {QUICK.attempts} times" in desk.refusal(*files)
    assert server.connections <= 2 * QUICK.attempts


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
    "a Location with a port of 5,000 digits": b"HTTP/1.1 302 Moved\r\nLocation: http://a:"
    + DIGITS
    + b"/\r\n\r\n",
    "a Location with a port that is none": b"HTTP/1.1 302 Moved\r\nLocation: http://a:b/\r\n\r\n",
    "a Location without a host": b"HTTP/1.1 302 Moved\r\nLocation: http:///x\r\n\r\n",
    "a Location with a long name": b"HTTP/1.1 302 Moved\r\nLocation: http://"
    + b"a" * 300
    + b"/\r\n\r\n",
    "a Location with an empty label": b"HTTP/1.1 302 Moved\r\nLocation: http://a..b/\r\n\r\n",
    "a Location that steers terminals": b"HTTP/1.1 302 Moved\r\nLocation: http://a/\x1b[2J\r\n\r\n",
    "a Location that is empty": b"HTTP/1.1 302 Moved\r\nLocation: \r\n\r\n",
}


@pytest.mark.parametrize("name", NONSENSE)
def test_an_answer_that_is_not_http_is_reported_in_one_line(
    name: str, server: Server, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "_LONGEST_PAUSE", 0.0)
    server.answer = lambda exchange: exchange.send(NONSENSE[name])
    line = desk.refusal(pinned(server.url + "/a"))
    assert not re.search("9{200}", line)


@pytest.mark.parametrize(
    "value", [DIGITS, b"-5", b"", b"0-1/" + DIGITS, b"bytes " + DIGITS + b"-1/5"]
)
def test_an_invalid_range_restarts_the_file(value: bytes, server: Server, desk: Desk) -> None:
    def answer(exchange: Exchange) -> None:
        if exchange.number == 0:
            exchange.send(OK + b"Content-Length: 1050\r\n\r\n" + TEXT[:500])
        elif "range" in exchange.headers:
            exchange.send(
                b"HTTP/1.1 206 Part\r\nContent-Range: "
                + value
                + b"\r\nContent-Length: 550\r\n\r\n"
                + TEXT[500:]
            )
        else:
            exchange.file()

    server.answer = answer
    assert desk.get(pinned(server.url + "/a")) == TEXT


def test_a_servers_text_cannot_steer_the_terminal(server: Server, desk: Desk) -> None:
    server.answer = lambda exchange: exchange.send(
        b"HTTP/1.1 404 \x1b]0;mine\x07\x1b[2J\x9b" + b"x" * 5000 + b"\r\n\r\n"
    )
    assert r"404 \x1b]0;mine\x07\x1b[2J\x9bxxx" in desk.refusal(pinned(server.url + "/a"))


def test_a_validator_that_cannot_be_sent_back_is_ignored(server: Server, desk: Desk) -> None:
    def answer(exchange: Exchange) -> None:
        assert "if-range" not in exchange.headers
        if exchange.number == 0:
            exchange.send(OK + b'ETag: "\xff\x1b"\r\nContent-Length: 1050\r\n\r\n' + TEXT[:500])
        else:
            start = int(exchange.headers["range"][6:-1])
            exchange.send(
                (
                    b"HTTP/1.1 206 P\r\nContent-Range: bytes %d-1049/1050\r\nContent-Length: "
                    b"550\r\n\r\n"
                )
                % start
                + TEXT[start:]
            )

    server.answer = answer
    assert desk.get(pinned(server.url + "/a")) == TEXT
