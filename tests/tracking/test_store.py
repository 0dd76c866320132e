"""The MLflow store: names that stay apart, addresses of odd paths, and stores that are damaged,
locked or none."""

import hashlib
import http.server
import json
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from long_cases import mostly_long
from mlflow.utils.validation import _validate_metric_name, _validate_param_name, _validate_tag_name
from tracking_project import all_runs, empty_store, project, write_project

from pipeline import tracking
from pipeline.core.errors import UserError
from pipeline.tracking import describe, mlflow_store, probe

__all__ = ["empty_store", "project"]  # fixtures
ORDINARY = [
    "train/loss",
    "valid/averaged_loss",
    "test/labels/positive/f1",
    "dvc.deps/pipeline/models/a-b_c.py",
    "a b",
    "a: b",
]
LABELS = [
    "正面",
    "负面",
    "a+",
    "a-",
    "c#",
    "c+",
    "très bon",
    "trés bon",
    "e\u0301",
    "é",
    "अच्छा",
    "अच्छी",
    ".",
    "..",
    "",
    "a/",
    "/a",
]
ODD_FOLDERS = [
    "a?b",
    "a#b",
    "a%20b",
    "a b",
    "it's",
    'say "so"',
    "żółć",
    "a&mode=memory",
    "a:b@c",
    "back\\slash",
]


@pytest.mark.parametrize("name", ORDINARY)
def test_an_ordinary_name_stays_as_it_is(name: str) -> None:
    assert describe.mlflow_name(name) == describe.mlflow_name(*name.split("/")) == name


def test_labels_that_differ_have_figures_of_their_own() -> None:
    assert len({describe.mlflow_name("test", "labels", label, "f1") for label in LABELS}) == len(
        LABELS
    )
    assert describe.mlflow_name("test", "labels", "正面", "f1") == "test/labels/正面/f1"


@given(
    st.lists(st.text(max_size=300), min_size=1, max_size=3),
    st.lists(st.text(max_size=300), min_size=1, max_size=3),
)
def test_unlike_keys_have_unlike_names_that_mlflow_accepts(
    first: list[str], second: list[str]
) -> None:
    for keys in (first, second):
        for check in (_validate_metric_name, _validate_param_name, _validate_tag_name):
            check(describe.mlflow_name("test", *keys))
        assert len(describe.mlflow_name("test", *keys)) <= 250
    assert (describe.mlflow_name("test", *first) == describe.mlflow_name("test", *second)) == (
        first == second
    )


@given(st.text(alphabet="a:+2B./", max_size=8), st.text(alphabet="a:+2B./", max_size=8))
def test_no_text_is_taken_for_the_escape_of_another(first: str, second: str) -> None:
    assert (describe.mlflow_name(first) == describe.mlflow_name(second)) == (first == second)


def test_settings_whose_keys_have_dots_stay_apart() -> None:
    settings = describe.flatten_texts({"a.b": {"c": 1}, "a": {"b.c": 2, "b": {"c": 3}}})
    assert sorted(settings.values()) == ["1", "2", "3"]
    assert describe.flatten_texts({"a": {"b": True}, "c": "d"}) == {"a.b": "true", "c": "d"}


def test_sync_records_scores_of_any_names_apart(project: Path) -> None:
    expected = {label: float(number) for number, label in enumerate(LABELS)}
    scores = {
        "test": {label: {"score": value} for label, value in expected.items()},
        "confusion/a": {"b": {"score": 1}},
        "confusion": {"a/b": {"score": 2}},
    }
    (project / "reports/metrics/lstm.json").write_text(json.dumps(scores), encoding="utf-8")
    tracking.sync(project)
    [run] = all_runs(mlflow_store.connect(project))
    recorded = {name: value for name, value in run.data.metrics.items() if name.startswith("test/")}
    assert sorted(recorded.values()) == sorted(expected.values())
    assert len([name for name in run.data.metrics if name.startswith("confusion")]) == 2
    assert "recorded" not in tracking.sync(project)


@pytest.mark.parametrize("name", mostly_long(ODD_FOLDERS, 5))
def test_a_project_s_store_lies_in_the_project_whatever_its_path(
    name: str, tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    root = tmp_path / name
    root.mkdir()
    write_project(root)
    (root / "mlflow.db").write_bytes(empty_store.read_bytes())
    monkeypatch.chdir(root)
    assert "lstm: recorded" in tracking.sync(root)
    assert list(tmp_path.iterdir()) == [root]
    with closing(sqlite3.connect(root / "mlflow.db")) as opened:
        assert opened.execute("select count(*) from runs").fetchall() == [
            (2,)
        ]  # the training and its setting
    assert (root / "mlartifacts").is_dir()


def test_new_store_is_private_to_its_owner_for_any_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    root = tmp_path / "it's a?b"
    root.mkdir()
    monkeypatch.chdir(root)
    assert all_runs(mlflow_store.connect(root)) == []
    assert (root / "mlflow.db").stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [root]
    assert {path.name for path in root.iterdir()} == {"mlflow.db", ".seqline"}


# Stores that are none


def _damage(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:4096] + bytes(4096) + content[8192:])


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


FAULTS: dict[str, Callable[[Path], Any]] = {
    "no database": lambda path: path.write_bytes(b"no database at all\n" * 100),
    "half a database": lambda path: path.write_bytes(path.read_bytes()[:10_000]),
    "damaged pages": _damage,
    "a folder": _folder,
    "an unknown version": lambda path: _execute(
        path, "update alembic_version set version_num = 'feedfacecafe'"
    ),
    "no table of runs": lambda path: _execute(path, "drop table runs"),
}
COMMANDS = [
    ("sync",),
    ("champions",),
    ("promote", "lstm"),
    ("rollback", "language_model-toy"),
    ("ui",),
    ("serve", "x"),
]


def _execute(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as opened:
        opened.execute(statement)
        opened.commit()


def assert_one_line(result: Any) -> None:
    assert result.status == 2
    assert re.fullmatch(
        r"seqline: MLFLOW_TRACKING_URI: got .*; expected a store that works \(.*\n", result.err
    ), result.err


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A locked file is given up at once."""
    monkeypatch.setattr(probe, "_LOCKED_SECONDS", 0.1)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("words", [COMMANDS[0], COMMANDS[1]], ids=lambda words: words[0])
def test_a_damaged_store_is_refused_in_one_line(
    fault: str,
    words: tuple[str, ...],
    project: Path,
    seqline: Callable[..., Any],
) -> None:
    (project / "presets").mkdir()
    FAULTS[fault](project / "mlflow.db")
    result = seqline(project, *words)
    if result.status:  # what is not read is not missed
        assert_one_line(result)


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
@pytest.mark.parametrize("fault", ["no database", "a folder", "locked"])
def test_every_command_refuses_a_broken_store_in_one_line(
    fault: str,
    words: tuple[str, ...],
    project: Path,
    seqline: Callable[..., Any],
    quick: None,
) -> None:
    (project / "presets").mkdir()
    if fault != "locked":
        FAULTS[fault](project / "mlflow.db")
    with closing(
        sqlite3.connect(project / "mlflow.db") if fault == "locked" else sqlite3.connect(":memory:")
    ) as holder:
        holder.execute("begin exclusive")
        result = seqline(project, *words)
    if words[0] == "promote" and "run: got lstm" in result.err:  # refused before the store is asked
        return
    assert_one_line(result)


@pytest.fixture
def garbage() -> Iterator[tuple[str, list[bytes]]]:
    """A server that answers each request with the bytes in a list's first place."""
    answer = [b""]

    class Answering(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer[0])))
            self.end_headers()
            self.wfile.write(answer[0])

        do_POST = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", answer
        server.shutdown()


@pytest.mark.parametrize(
    "reply",
    mostly_long(
        [
            b"",
            b"<html>hello</html>",
            b"null",
            b"[]",
            b"7",
            b'{"experiments": 7}',
            b'{"experiments": [{"experiment_id": []}]}',
            b'{"registered_models": "x", "experiments": []}',
            b"\xff\xfe",
            b"[" * 100_000,
        ],
        4,
        lambda reply: reply[:30].decode("latin-1"),
    ),
)
@pytest.mark.parametrize("words", [COMMANDS[0], COMMANDS[1]], ids=lambda words: words[0])
def test_a_server_that_answers_garbage_is_refused_in_one_line(
    reply: bytes, words: tuple[str, ...], garbage: Any, project: Path, seqline: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (project / "presets").mkdir()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", garbage[0])
    garbage[1][0] = reply
    result = seqline(project, *words)
    if result.status:
        assert_one_line(result)


def test_an_invalid_digest_is_refused(project: Path) -> None:
    path = project / "data/models/lstm/config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"digest": "1' or '1' = '1"}))
    with pytest.raises(UserError, match=r"got the digest .*; expected a hash"):
        tracking.sync(project)


@pytest.mark.parametrize("words", COMMANDS[:2], ids=lambda words: words[0])
@pytest.mark.parametrize("address", ["postgresql://u:p@127.0.0.1:$PORT/db", "http://[::1"])
def test_an_address_that_is_none_is_refused_in_one_line(
    address: str, words: tuple[str, ...], project: Path, seqline: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (project / "presets").mkdir()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    result = seqline(project, *words)
    assert result.status == 2
    assert_one_line(result)


def test_a_relative_path_of_a_store_is_in_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    (tmp_path / "docs").mkdir()
    monkeypatch.chdir(tmp_path / "docs")
    assert describe.database(tmp_path) == tmp_path / "mlflow.db"
    assert describe.uri(tmp_path) == f"sqlite:///{tmp_path / 'mlflow.db'}"


def test_scores_of_another_model_are_not_recorded(project: Path) -> None:
    """DVC was killed before it had hashed the new model: dvc.lock has the old one, as evaluated."""
    metrics = project / "reports/metrics/lstm.json"
    content = json.loads(metrics.read_text())
    (project / "data/models/lstm/model.safetensors").write_bytes(b"new")
    metrics.write_text(json.dumps({**content, "weights": 64 * "0"}))
    tracking.sync(project)
    client = mlflow_store.connect(project)
    [run] = all_runs(client)
    assert "score" not in run.data.metrics
    assert "score" not in run.data.tags
    right = hashlib.sha256(b"new").hexdigest()
    metrics.write_text(json.dumps({**content, "weights": right}))
    tracking.sync(project)
    assert "score" in client.get_run(run.info.run_id).data.metrics
