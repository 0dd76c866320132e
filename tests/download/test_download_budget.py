"""The budget of a source: what counts, who shares it, when it is forgotten, and its section of
flow.yaml."""

import hashlib
import json
import re
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import hostile_server
import pytest
import yaml
from hostile_server import NOT_FOUND, OK, TEXT, Desk, Exchange, Server, loose, pinned

from pipeline.core.errors import UserError
from pipeline.dag import refresh
from pipeline.download import budget as budgets
from pipeline.download import fetch
from pipeline.download.budget import SHIPPED, Account
from pipeline.download.failures import BudgetSpent

ROOT = Path(__file__).parents[2]
desk, serve, server = hostile_server.desk, hostile_server.serve, hostile_server.server  # fixtures


def test_all_addresses_and_files_of_a_source_share_its_budget(server: Server, desk: Desk) -> None:
    server.answer = lambda exchange: exchange.send(NOT_FOUND)
    desk.budget = replace(SHIPPED, requests=3)
    urls = [f"{server.url}/{n}" for n in range(3)]
    line = desk.refusal(
        pinned(*urls[:2]), pinned(*urls[2:], name="b"), mirrored=f"{server.url}/mirror"
    )
    assert "budget of 3 requests is spent" in line
    assert server.connections == 3
    assert all(exchange.path.startswith("/mirror/") for exchange in server.requests)


def test_redirects_count_as_requests(server: Server, desk: Desk) -> None:
    server.answer = lambda exchange: exchange.send(
        b"HTTP/1.1 302 Moved\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n"
    )
    desk.budget = replace(SHIPPED, requests=4)
    assert "budget of 4 requests is spent" in desk.refusal(pinned(server.url + "/a"))
    assert server.connections == 4


def test_each_source_has_a_separate_budget(server: Server, desk: Desk) -> None:
    desk.budget = replace(SHIPPED, requests=1)
    server.answer = lambda exchange: (
        exchange.send(NOT_FOUND) if exchange.path == "/a" else exchange.file()
    )
    desk.refusal(pinned(server.url + "/a"))
    assert desk.get(pinned(server.url + "/b")) == TEXT


def test_a_spent_budget_leaves_local_files_and_mirrors(
    server: Server, desk: Desk, tmp_path: Path
) -> None:
    server.answer = lambda exchange: exchange.send(NOT_FOUND)
    desk.budget = replace(SHIPPED, requests=1)
    copy = tmp_path / "mirror" / "copy"
    file = pinned(server.url + "/a", server.url + "/b", copy.as_uri())
    desk.refusal(file)
    copy.parent.mkdir()
    copy.write_bytes(TEXT)
    assert desk.get(file) == TEXT


def test_deleting_the_account_resets_it_and_so_does_success(server: Server, desk: Desk) -> None:
    desk.budget = replace(SHIPPED, requests=1)
    server.answer = lambda exchange: exchange.send(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")
    path = re.search(r"delete (\S+) to begin", desk.refusal(pinned(server.url + "/a")))
    assert path
    Path(path[1]).unlink()
    server.answer = Exchange.file
    assert desk.get(pinned(server.url + "/a")) == TEXT
    assert desk.spent() == {}


def test_ordinary_failures_never_add_up_to_a_spent_budget(server: Server, desk: Desk) -> None:
    server.answer = lambda exchange: exchange.send(NOT_FOUND)
    desk.budget = replace(SHIPPED, requests=2)
    for _ in range(5):
        assert "404 No" in desk.refusal(pinned(server.url + "/a"))


def test_time_between_exchanges_is_not_counted_and_time_in_them_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    assert Account(replace(SHIPPED, seconds=13.0), tmp_path, "x").seconds_left() == pytest.approx(
        1.0
    )


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
def test_the_spending_of_a_killed_stage_counts_when_it_starts_again(
    server: Server, tmp_path: Path
) -> None:
    dripping = threading.Event()

    def answer(exchange: Exchange) -> None:
        exchange.send(OK + b"Content-Length: 1050\r\n\r\n")
        dripping.set()
        exchange.forever(b"x", pause=0.02)

    server.answer = answer
    block = {
        "format": "text_lines",
        "read": {},
        "limit": None,
        "split": "official",
        "text": {},
        "vocab": {},
        "samples": [],
    }
    corpora = {"mine": block | {"source": {"files": [pinned(server.url + "/a")]}}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"corpora": corpora}))
    (tmp_path / "flow.yaml").write_text(
        yaml.safe_dump({"download": {"seconds": 60, "bytes": 10**9, "requests": 3}})
    )
    out, params, work = tmp_path / "raw" / "mine", tmp_path / "params.yaml", tmp_path / "work"
    command = [
        sys.executable,
        "-m",
        "stages.download",
        "mine",
        "--params",
        params,
        "--out",
        out,
        "--work",
        work,
    ]
    for kills in (1, 2, 3):
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        assert dripping.wait(600)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        dripping.clear()
        assert json.loads(next(work.glob("*.spent")).read_text())["requests"] == kills
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    _, error = process.communicate(timeout=600)
    assert process.returncode == 2
    assert "its source's budget of 3 requests is spent" in error
    assert "Raise download.requests in flow.yaml" in error
    assert error.count("\n") == 1
    assert server.connections == 3


def test_refresh_spends_from_the_same_budget(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "_LONGEST_PAUSE", 0.0)
    monkeypatch.setattr(fetch, "_PROGRESS_BYTES", 1)
    (tmp_path / "flow.yaml").write_text(
        yaml.safe_dump({"download": {"seconds": 60, "bytes": 10**9, "requests": 5}})
    )
    described = {"files": [loose(server.url + "/a")]}
    monkeypatch.setattr(refresh.params, "corpus", lambda *_: corpus)
    corpus = type("Corpus", (), {"source": described})
    served, unclear = refresh._served_digests(tmp_path, "mine", corpus)  # type: ignore[arg-type]
    assert served == {"a.txt": hashlib.sha256(TEXT).hexdigest()}
    assert not list((tmp_path / ".seqline" / "downloads").glob("*.spent"))

    # Each time a byte more than ever, under a validator that stays: progress without end.
    def answer(exchange: Exchange) -> None:
        start = int(exchange.headers.get("range", "bytes=0-")[6:-1])
        head = b"HTTP/1.1 206 Part\r\nContent-Range: bytes %d-999/1000\r\n" % start if start else OK
        exchange.send(head + b'ETag: "x"\r\nContent-Length: %d\r\n\r\nx' % (1000 - start))

    server.answer = answer
    for connections in (6, 6):  # the second time no request is sent
        served, unclear = refresh._served_digests(tmp_path, "mine", corpus)  # type: ignore[arg-type]
        assert served == {}
        assert (
            "budget of 5 requests is spent; the existing copy is kept. Raise download.requests in "
            "flow.yaml"
        ) in unclear[0]
        assert server.connections == connections


# --- the section of flow.yaml


def test_the_shipped_budget_is_that_of_flow_yaml_and_the_one_without_it(tmp_path: Path) -> None:
    assert budgets.load(ROOT) == SHIPPED == budgets.load(tmp_path)


@pytest.mark.parametrize(
    ("section", "line"),
    [
        ({"seconds": 1, "bytes": 1}, "download.requests: got nothing"),
        (
            {"seconds": 0, "bytes": 1, "requests": 1},
            "download.seconds: got 0.0; expected more than 0.",
        ),
        (
            {"seconds": 1, "bytes": 1.5, "requests": 1},
            "download.bytes: got 1.5; expected a whole number.",
        ),
        (
            {"seconds": 1, "bytes": 1, "requests": 1, "hours": 1},
            "download.hours: got an unknown key",
        ),
    ],
)
def test_a_wrong_budget_is_refused_by_its_key(
    section: dict[str, object], line: str, tmp_path: Path
) -> None:
    (tmp_path / "flow.yaml").write_text(yaml.safe_dump({"download": section}))
    with pytest.raises(UserError, match=f"^{re.escape(line)}"):
        budgets.load(tmp_path)
