"""The page of `seqline demo` over HTTP, with small trained runs of every command."""

import json
import math
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
import trying_project
from demo_server import running

from pipeline.cli import demo as command
from pipeline.contracts import BOS, EOS
from pipeline.core.errors import UserError
from pipeline.core.request_text import LONGEST_TEXT
from pipeline.predictor import explain, open_session
from pipeline.serving import demo, demo_answers, http_server

SENTENCE = "the children see the old house ."
GAP = "the whales near the harbour ___ the anchor ."
USERS = 50


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("demo")
    trying_project.train(root)
    return root


@pytest.fixture(scope="module")
def panels(trained: Path) -> dict[str, demo.Panel]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        return {panel.id: panel for panel in command.panels(trained)}


@pytest.fixture(scope="module")
def port(panels: dict[str, demo.Panel]) -> Iterator[int]:
    with running(lambda port: demo.app(list(panels.values()), port)) as port:
        yield port


def fetch(port: int, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any, Any]:
    """Status, headers and body of a GET, or of a POST of JSON."""
    named = {"Content-Type": "application/json"} | headers
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, named)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.headers, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def ask(port: int, text: Any, **params: Any) -> tuple[int, Any]:
    body = json.dumps({"inputs": [text], "params": params}).encode()
    status, _, answer = fetch(port, "/invocations", body)
    content = json.loads(answer)
    return status, content["predictions"] if status == 200 else content["message"]


# --- what is offered


def test_every_command_with_trained_runs_has_a_panel(panels: dict[str, demo.Panel]) -> None:
    assert {name: {run.setting for run in panel.runs} for name, panel in panels.items()} == {
        "translate:toy_en_fr": {"seq2seq", "attention"},
        "generate:toy_story": {"rnn"},
        "fill:toy_story": {"bidirectional", "bert"},
        "classify:toy_reviews": {"mlp"},
        "neighbours:toy_story": {"skip_gram"},
    }
    scores = [float(run.score.split()[1]) for run in panels["translate:toy_en_fr"].runs]
    assert scores == sorted(scores, reverse=True)


def test_what_is_not_trained_is_not_offered(trained: Path, panels: dict[str, demo.Panel]) -> None:
    model = trained / "data/models/mlp"
    model.rename(model.with_name("away"))
    try:
        left = {panel.id for panel in command.panels(trained)}
    finally:
        model.with_name("away").rename(model)
    assert left == set(panels) - {"classify:toy_reviews"}


def test_a_project_without_trained_runs_is_refused_in_one_line(project: Path, seqline) -> None:
    result = seqline(project, "demo")
    assert (result.status, result.out) == (2, "")
    assert result.err == (
        "seqline: demo: got none; expected a trained run that the page can ask, and there is "
        "none. Run `make repro`, or `dvc repro`.\n"
    )


# --- answers


@pytest.mark.parametrize("run", ["seq2seq", "attention", "rnn"])
def test_probabilities_of_words_are_those_of_teacher_forcing(
    run: str, panels: dict[str, demo.Panel]
) -> None:
    files = {run.setting: run for panel in panels.values() for run in panel.runs}[run].files
    session = open_session(files)
    answer = explain(session, SENTENCE)
    assert answer.tokens
    assert len(answer.tokens) == len(answer.probabilities)

    continuation = " ".join(token.strip() for token in answer.tokens)
    [ids] = session.target_codec.encode(pa.array([continuation])).to_pylist()
    model: Any = session.model
    with torch.inference_mode():
        if session.continues_prompt:
            [prompt] = session.source_codec.encode(pa.array([SENTENCE])).to_pylist()
            hidden_BTH, _ = model.hidden(torch.tensor([[EOS, *prompt, *ids]]), None)
            hidden_TH = hidden_BTH[0, len(prompt) :]
        else:
            target = torch.tensor([[BOS, *ids]])
            hidden_TH = model.hidden(session.prompt([SENTENCE]), target)[0]
        probabilities_TV = model.project(hidden_TH).softmax(1)
    expected = [float(probabilities_TV[i, token]) for i, token in enumerate(ids)]
    assert answer.probabilities == pytest.approx(expected, rel=1e-4)


def test_translators_answer_side_by_side_with_attention_where_they_have_it(port: int) -> None:
    status, rows = ask(port, SENTENCE, panel="translate:toy_en_fr")
    assert status == 200
    by_setting = {row["setting"]: row for row in rows}
    assert by_setting["seq2seq"]["attention"] is None
    attention = by_setting["attention"]["attention"]
    [heat] = attention["maps"]
    assert attention["columns"] == [*SENTENCE.split(), "<eos>"]
    assert len(heat["weights"]) == len(attention["rows"])
    assert [sum(row) for row in heat["weights"]] == pytest.approx(
        [1.0] * len(heat["weights"]), 0.01
    )


def test_the_mean_of_heads_is_the_first_map() -> None:
    arrays = {f"layer 1 head {n}": torch.rand(2, 3).numpy() for n in (1, 2)}
    weights = demo_answers.AttentionWeights(["a", "b", "c"], ["x", "y"], arrays)
    mean, *heads = demo_answers.attention_maps(weights)["maps"]
    assert [mean["name"], *(head["name"] for head in heads)] == [
        "mean of the heads",
        "head 1",
        "head 2",
    ]
    total = torch.tensor(heads[0]["weights"]) + torch.tensor(heads[1]["weights"])
    assert torch.allclose(torch.tensor(mean["weights"]) * 2, total, atol=1e-3)


def test_another_seed_gives_another_continuation(port: int) -> None:
    continuations = [
        ask(port, "once upon a time", panel="generate:toy_story", seed=seed)[1][0]["text"]
        for seed in (0, 0, 1, 2, 3)
    ]
    assert continuations[0] == continuations[1]
    assert len(set(continuations)) > 1


def test_labels_have_probabilities_that_sum_to_one(port: int) -> None:
    [row] = ask(port, "the plot was not good .", panel="classify:toy_reviews")[1]
    [labels] = row["lists"]
    assert {label["name"] for label in labels} == {"positive", "negative"}
    assert math.isclose(sum(label["value"] for label in labels), 1, abs_tol=1e-6)
    assert labels[0]["value"] >= labels[1]["value"]
    assert row["text"] == labels[0]["name"]


def test_each_blank_has_words_and_a_run_may_refuse_where_another_answers(port: int) -> None:
    for row in ask(port, GAP, panel="fill:toy_story")[1]:
        [words] = row["lists"]
        assert GAP.replace("___", words[0]["name"]) == row["text"]
    rows = {row["setting"]: row for row in ask(port, "the ___ ___ .", panel="fill:toy_story")[1]}
    assert len(rows["bert"]["lists"]) == 2
    assert "one blank" in rows["bidirectional"]["error"]


def test_neighbours_are_words_with_falling_cosines(port: int) -> None:
    [row] = ask(port, " the ", panel="neighbours:toy_story")[1]
    values = [near["value"] for near in row["lists"][0]]
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("name", ["translate:toy_en_fr", "generate:toy_story", "fill:toy_story"])
def test_unknown_words_are_named(port: int, name: str) -> None:
    text = "the zyzzy ___ ." if name.startswith("fill") else "the zyzzy ."
    status, rows = ask(port, text, panel=name)
    assert status == 200
    assert all(row["unknown"] == ["zyzzy"] for row in rows)


# --- hostile, empty and long input


@pytest.mark.parametrize("text", ["", " \t\n ", "\u00a0"])
def test_an_empty_text_is_refused(port: int, text: str) -> None:
    status, message = ask(port, text, panel="translate:toy_en_fr")
    assert (status, message) == (400, "text: got an empty text; expected a text with words.")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"inputs": ["x" * (LONGEST_TEXT + 1)]}, f"at most {LONGEST_TEXT}"),
        ({"inputs": ["a", "b"]}, "expected one text"),
        ({"inputs": [3]}, "expected a text"),
        ({"inputs": ["\ud800"]}, "lone surrogate"),
        ({"inputs": ["a"], "params": {}}, "panel: got null"),
        ({"inputs": ["a"], "params": {"panel": "<b>"}}, "panel: got <b>"),
        ({"inputs": ["a"], "params": {"panel": ["x"]}}, "panel: got a list"),
        ({"inputs": ["a"], "params": {"sed": 1}}, "did you mean 'seed'"),
        ({"inputs": ["a"], "params": {"seed": -1}}, "seed: got -1"),
        ({"inputs": ["a"], "params": {"seed": 2**40}}, "expected a whole number"),
        ({"inputs": ["a"], "params": {"seed": True}}, "seed: got true"),
    ],
)
def test_invalid_requests_are_refused_in_one_line(port: int, body: Any, expected: str) -> None:
    if "panel" not in body.get("params", {}) and body.get("params") != {}:
        body = body | {"params": {"panel": "translate:toy_en_fr"} | body.get("params", {})}
    status, _, answer = fetch(port, "/invocations", json.dumps(body).encode())
    message = json.loads(answer)["message"]
    assert status == 400
    assert expected.lower() in message.lower()
    assert "\n" not in message


def test_the_longest_text_is_answered_without_a_map_of_it(port: int) -> None:
    text = ("the " * LONGEST_TEXT)[:LONGEST_TEXT]
    status, rows = ask(port, text, panel="translate:toy_en_fr")
    assert status == 200
    row = {row["setting"]: row for row in rows}["attention"]
    assert row["attention"]["maps"] == []
    assert row["tokens"]


def test_markup_comes_back_as_text(port: int) -> None:
    text = "<img src=x onerror=alert(1)>"
    status, rows = ask(port, text, panel="generate:toy_story")
    assert (status, rows[0]["prompt"]) == (200, [" <unk>"] * len(rows[0]["prompt"]))


# --- the page, and many users


def test_the_page_allows_no_inline_script_and_no_other_server(port: int) -> None:
    for path in ("/", "/demo.css", "/demo.js", "/panels"):
        status, headers, body = fetch(port, path)
        policy = headers["Content-Security-Policy"]
        assert (status, headers["X-Content-Type-Options"]) == (200, "nosniff")
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; ")
        assert "unsafe" not in policy
        assert b"http://" not in body
        assert b"https://" not in body
    script = fetch(port, "/demo.js")[2]
    assert not [word for word in (b"innerHTML", b"outerHTML", b"insertAdjacent") if word in script]


@pytest.mark.parametrize(
    "headers",
    [{"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}],
)
def test_only_the_page_itself_may_ask(port: int, headers: dict[str, str]) -> None:
    body = json.dumps({"inputs": ["a"], "params": {"panel": "generate:toy_story"}}).encode()
    assert fetch(port, "/invocations", body, **headers)[0] == 403
    assert fetch(port, "/", **headers)[0] == 403


@pytest.mark.long
def test_fifty_users_at_a_time_all_get_their_own_answers(port: int) -> None:
    words = SENTENCE.split()[:-1]
    texts = [" ".join([*words[n % 6 :], *words[: n % 6], "."]) for n in range(USERS)]
    expected = {text: ask(port, text, panel="classify:toy_reviews") for text in set(texts)}
    start = threading.Barrier(USERS)

    def user(text: str) -> tuple[int, Any]:
        start.wait()
        return ask(port, text, panel="classify:toy_reviews")

    with ThreadPoolExecutor(USERS) as users:
        answers = list(users.map(user, texts))
    assert [status for status, _ in answers] == [200] * USERS
    assert answers == [expected[text] for text in texts]


def test_users_beyond_the_queue_are_told_to_try_again(
    panels: dict[str, demo.Panel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "QUEUED", 2)
    free, begun = threading.Event(), threading.Semaphore(0)

    def slow(self: demo.Demo, texts: Any, params: Any) -> list[dict[str, Any]]:
        begun.release()
        free.wait(60)
        return []

    monkeypatch.setattr(demo.Demo, "answer", slow)
    with (
        running(lambda port: demo.app(list(panels.values()), port)) as port,
        ThreadPoolExecutor(USERS) as users,
    ):
        requests = [users.submit(ask, port, "a") for _ in range(USERS)]
        for _ in range(demo.CONCURRENT):
            begun.acquire()
        refused = USERS - demo.CONCURRENT - 2
        while sum(request.done() for request in requests) < refused:
            time.sleep(0.01)
        free.set()
        results = [request.result() for request in requests]
    message = "request: got too many at a time; try again later."
    assert sorted(status for status, _ in results) == [200] * (USERS - refused) + [503] * refused
    assert {answer for status, answer in results if status == 503} == {message}


def test_a_busy_port_is_refused(panels: dict[str, demo.Panel]) -> None:
    with socket.create_server((http_server.HOST, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"--port: got {port}; expected a free port"):
            demo.serve(list(panels.values()), port, [])
