"""Registered versions at work: real, tiny trainings under a real DVC, loaded and served by MLflow
itself."""

import io
import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
import trained_project
import yaml
from mlflow.exceptions import MlflowException
from tracking_project import Server
from waiting import HANG_SECONDS

from pipeline import tracking
from pipeline.core import tables
from pipeline.core.errors import UserError
from pipeline.tracking import describe, mlflow_store, registry

ROOT = Path(__file__).resolve().parents[2]
NAMES = {
    "seq2seq": "translation-toy_en_fr",
    "mlp": "classification-toy_reviews",
    "rnn": "language_model-toy_story",
    "bidirectional": "fill_blank-toy_story",
    "bert": "masked_language_model-toy_story",
    "skip_gram": "word_vectors-toy_story",
}
pytestmark = pytest.mark.long
SERVE = (
    "import sys, pathlib as p, pipeline.serving.model_server as t; t.serve(p.Path(sys.argv[1]), "
    "sys.argv[2], int(sys.argv[3]), [])"
)


@pytest.fixture(scope="module")
def registered_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project where all of it has run and is registered."""
    root = trained_project.build(
        tmp_path_factory.mktemp("serving") / "project", trained_project.small()
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        said = tracking.sync(root)
    assert all(f"registered as {name}/1" in said for name in NAMES.values())
    return root


@pytest.fixture
def project(registered_project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project, as a person in its folder sees it."""
    for variable in ("MLFLOW_TRACKING_URI", "SEQLINE_ROOT"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(registered_project)
    return registered_project


def loaded(name: str) -> Callable[..., Any]:
    """`answers(texts, params)` of what MLflow loads in the project's folder: rows, as a server
    would send them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", describe.uri(Path.cwd()))
        model = mlflow.pyfunc.load_model(f"models:/{name}")
    return lambda texts, params=None: model.predict(texts, params).to_dict("records")


def samples(root: Path, run: str) -> list[dict[str, Any]]:
    """What the predict stage answered to its corpus's samples."""
    found: list[dict[str, Any]] = tables.read(
        root / f"data/predictions/{run}/samples.parquet", tables.SAMPLES
    ).to_pylist()
    return found


@contextmanager
def serving(words: list[str], root: Path, **where: str) -> Iterator[str]:
    """A server's address, from when it answers until the block is left."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {
        "PATH": path,
        "PYTHONPATH": str(ROOT),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        **where,
    }
    with subprocess.Popen(
        [*words, str(port)], cwd=root, env=environment, stdout=2, process_group=0
    ) as process:
        try:
            until = time.monotonic() + HANG_SECONDS
            while process.poll() is None and time.monotonic() < until and not alive(port):
                time.sleep(0.2)
            assert process.poll() is None
            yield f"http://127.0.0.1:{port}"
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(HANG_SECONDS)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
    until = time.monotonic() + HANG_SECONDS  # its worker ends after it
    while alive(port) and time.monotonic() < until:
        time.sleep(0.2)
    assert not alive(port)


def alive(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=2):
            return True
    except (urllib.error.URLError, OSError):
        return False


def post(address: str, body: dict[str, Any]) -> tuple[int, Any]:
    """The status and the answer to a POST."""
    head = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{address}/invocations", json.dumps(body).encode(), head)
    try:
        with urllib.request.urlopen(request, timeout=HANG_SECONDS) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_mlflow_serves_champion_translator_like_the_predict_stage(project: Path) -> None:
    registry.promote(project, registry.version_of_run(project, "seq2seq"), {})
    want = samples(project, "seq2seq")
    champion = f"models:/{NAMES['seq2seq']}@champion"
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "models",
        "serve",
        "-m",
        champion,
        "--env-manager",
        "local",
        "-p",
    ]
    with serving(command, project) as address:
        status, found = post(address, {"inputs": [sample["prompt"] for sample in want]})
        assert status == 200
        assert [(row["row"], row["text"]) for row in found["predictions"]] == [
            (s["row"], s["text"]) for s in want
        ]
        assert [row["log_prob"] for row in found["predictions"]] == pytest.approx(
            [s["log_prob"] for s in want], abs=1e-3
        )
        split = {"dataframe_split": {"columns": ["text"], "data": [[want[0]["prompt"]]]}}
        assert post(address, split)[1]["predictions"][0]["text"] == want[0]["text"]
        _, several = post(address, {"inputs": [want[0]["prompt"]], "params": {"n_best": 3}})
        assert [row["row"] for row in several["predictions"]] == [0, 0, 0]
        scores = [row["log_prob"] for row in several["predictions"]]
        assert len({row["text"] for row in several["predictions"]}) == 3
        assert scores[0] == pytest.approx(want[0]["log_prob"], abs=1e-3)
        status, refused = post(address, {"inputs": ["a"], "params": {"n_best": 0}})
        assert (status, "n_best: got 0; expected" in refused["message"]) == (400, True)


def test_seqline_serves_a_classifier_from_any_folder_until_ctrl_c(
    project: Path, tmp_path: Path
) -> None:
    want = samples(project, "mlp")
    command = [sys.executable, "-c", SERVE, str(project), f"{NAMES['mlp']}/1"]
    with serving(command, tmp_path) as address:
        status, found = post(address, {"inputs": [sample["prompt"] for sample in want]})
        assert status == 200
        assert [row["label"] for row in found["predictions"]] == [sample["text"] for sample in want]
        assert all(0.5 <= row["probability"] <= 1 for row in found["predictions"])
        _, unknown = post(address, {"inputs": ["The zyzzy .", "the"]})
        assert [row["unknown_words"] for row in unknown["predictions"]] == [["zyzzy"], []]
        assert post(address, {"inputs": [" \u200b "]}) == (
            200,
            {"predictions": [{"label": "", "probability": 0.0, "unknown_words": []}]},
        )
        status, refused = post(address, {"inputs": ["so good .", None]})
        assert (status, refused["message"]) == (400, "inputs[1]: got null; expected a text.")
        status, refused = post(address, {"inputs": ["so good ."], "params": {"n_best": 3}})
        assert (
            status,
            refused["message"].startswith(
                "params: got the unknown name 'n_best'; expected no params"
            ),
        ) == (
            400,
            True,
        )
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline")]
    assert not [
        words
        for words in commands
        if b"pipeline.serving.http_server" in words and address.rpartition(":")[2].encode() in words
    ]


@pytest.mark.parametrize("run", ["bidirectional", "bert", "skip_gram"])
def test_every_task_that_is_no_search_answers_as_the_predict_stage_did(
    run: str, project: Path
) -> None:
    want = [sample for sample in samples(project, run) if sample["text"]]
    assert want
    found = loaded(f"{NAMES[run]}/1")([sample["prompt"] for sample in want])
    assert [row["text"] for row in found] == [sample["text"] for sample in want]


def test_language_model_continues_a_prefix_reproducibly(project: Path) -> None:
    answers = loaded(f"{NAMES['rnn']}/1")
    [first], [again], [other] = (
        answers(["once upon"], settings) for settings in (None, None, {"seed": 5})
    )
    assert first == again != other
    assert first["text"].startswith("once upon ")


def test_a_text_without_a_blank_is_refused_in_words(project: Path) -> None:
    with pytest.raises(
        MlflowException, match="got no gap; expected a text with one blank, written ___"
    ):
        loaded(f"{NAMES['bidirectional']}/1")(["no gap"])


@pytest.mark.parametrize(
    ("column", "line"),
    [
        (["a", None], r"inputs\[1\]: got null; expected a text\."),
        (["a", math.nan], r"inputs\[1\]: got NaN; expected a text\."),
        (["a", pd.NA], r"inputs\[1\]: got NaN; expected a text\."),
        (["a", 3], r"inputs\[1\]: got a number; expected a text\."),
        (["a", True], r"inputs\[1\]: got true; expected a text\."),
        ([["a"]], r"inputs\[0\]: got a list; expected a text\."),
        ([b"a"], r"inputs\[0\]: got bytes; expected a text\."),
        (["a", "\ud800"], r"inputs\[1\]: got the lone surrogate U\+D800"),
        (["a" * 14_001], r"inputs\[0\]: got 14001 characters; expected at most 14000"),
    ],
)
def test_a_frame_with_a_value_that_is_no_text_is_refused_by_its_number(
    column: list[Any], line: str, project: Path
) -> None:
    for run in ("seq2seq", "mlp"):
        with pytest.raises(MlflowException, match=line):
            loaded(f"{NAMES[run]}/1")(pd.DataFrame({"text": pd.Series(column, dtype=object)}))


def test_a_text_column_of_pandas_with_a_gap_is_refused(project: Path) -> None:
    with pytest.raises(MlflowException, match=r"inputs\[1\]: got (NaN|null); expected a text\."):
        loaded(f"{NAMES['mlp']}/1")(pd.DataFrame({"text": pd.array(["a", None], dtype="string")}))


@pytest.mark.parametrize(
    ("n_best", "status"), [(1, 0), (100, 0), (0, 1), (101, 1), (10**9, 1), (10**18, 1)]
)
def test_a_loaded_version_gives_no_more_answers_than_its_limit(
    n_best: int, status: int, project: Path
) -> None:
    answers = loaded(f"{NAMES['seq2seq']}/1")
    if not status:
        assert 1 <= len(answers(["the cat sleeps ."], {"n_best": n_best})) <= n_best
        return
    with pytest.raises(
        MlflowException, match=rf"n_best: got {n_best}; expected a whole number from 1 to 100\."
    ):
        answers(["the cat sleeps ."], {"n_best": n_best})


@pytest.mark.parametrize("run", trained_project.RUNS)
def test_mlflow_refuses_params_with_unknown_names(run: str, project: Path) -> None:
    answers = loaded(f"{NAMES[run]}/1")
    line = r"^params: got the unknown name 'nbest'; expected (one of|no params)"
    with pytest.raises(MlflowException, match=line):
        answers(["the ___ ."], {"nbest": 3})
    assert len(answers(["the ___ ."])) == 1


def test_other_models_of_mlflow_still_ignore_unknown_params(project: Path, tmp_path: Path) -> None:
    loaded(f"{NAMES['mlp']}/1")
    (tmp_path / "model.py").write_text(
        "import mlflow\nclass Plain(mlflow.pyfunc.PythonModel):\n"
        "    def predict(self, context, model_input, params=None):\n        return [1]\n"
        "mlflow.models.set_model(Plain())\n"
    )
    mlflow.pyfunc.save_model(tmp_path / "saved", python_model=str(tmp_path / "model.py"))
    model = mlflow.pyfunc.load_model(str(tmp_path / "saved"))
    assert model.predict(["a"], {"nbest": 3}) == [1]


def test_best_version_is_served_until_there_is_a_champion(
    project: Path, tmp_path: Path, seqline
) -> None:
    name = NAMES["mlp"]
    program = (
        f"import sys; sys.argv = ['seqline', 'serve', {name!r}, '--port', sys.argv[2]]; "
        "from pipeline import cli; cli.main()"
    )
    text = "THE ."
    want = seqline(project, "classify", text, "--run", "mlp").out
    with serving([sys.executable, "-c", program, "--port"], project) as address:
        status, response = post(address, {"inputs": [text]})
        assert (status, response["predictions"][0]["label"]) == (200, want.split()[1])
    result = seqline(project, "classify", text, "--run", "@champion")
    assert (result.status, "expected one that it has, and it has none" in result.err) == (2, True)

    version = registry.version_of_run(project, "mlp")
    registry.promote(project, version, {"by": "hand"})
    result = seqline(project, "classify", text)
    assert (result.status, result.out) == (0, want)
    assert result.err == (
        f"seqline: answers by mlp, the champion of {name} (version {version.version})\n"
    )
    for champion in ("@champion", f"{name}@champion"):
        assert seqline(project, "classify", text, "--run", champion) == (0, want, "")
    rows = map(json.loads, seqline(project, "runs", "--json").out.splitlines())
    assert {row["run"]: row["champion"] for row in rows if row["champion"]}["mlp"] == 1


BLANK_TEXTS = ("", " ", "\u200b", "\u00a0\t", "\ufeff", "\x00\x1b")


@pytest.mark.parametrize("run", trained_project.RUNS)
def test_blank_text_has_blank_prediction_and_does_not_affect_others(
    run: str, project: Path
) -> None:
    answers = loaded(f"{NAMES[run]}/1")
    text = "the ___ sleeps ." if run in ("bidirectional", "bert") else "the cat sleeps ."
    mixed = answers([text, *BLANK_TEXTS, text])
    assert len(mixed) == len(BLANK_TEXTS) + 2
    for row in mixed[1:-1]:
        if run != "rnn":  # a language model goes on from nothing
            assert row.get("text", row.get("label")) == ""
            assert row.get("log_prob", 0.0) == row.get("probability", 0.0) == 0.0
    [alone] = answers([text])
    # which draws anew for each text
    for row in mixed[:1] if run == "rnn" else (mixed[0], mixed[-1]):
        for key, value in alone.items():
            same = row[key] == value or key in ("row", "unknown_words")
            assert same or row[key] == pytest.approx(value, abs=1e-4)


def piped(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """Let standard input hold these bytes."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content), encoding="utf-8"))


def test_translate_answers_readable_lines_and_blank_ones_with_blanks(
    project: Path, monkeypatch, seqline
) -> None:
    good = "the cat sleeps .\nthe king sees a tree .\n"
    piped(monkeypatch, good.encode())
    want = seqline(project, "translate", "--run", "seq2seq")
    assert (want.status, want.out.count("\n")) == (0, 2)
    unknown = want.err.replace(" of 2 lines", " of 5 lines")
    first, second = want.out.splitlines()

    lines = [
        b"\xef\xbb\xbfthe cat sleeps .\r",
        b"",
        "\u200b \u00a0".encode(),
        b"the caf\xe9 .",
        b"the king sees a tree .",
    ]
    piped(monkeypatch, b"\n".join(lines))
    result = seqline(project, "translate", "--run", "seq2seq")
    assert result.out == f"{first}\n\n\n\n{second}\n"
    line = (
        "standard input: got byte 0xe9, line 4; expected UTF-8. Convert it, for example with iconv."
    )
    assert (result.status, result.err) == (2, f"{unknown}seqline: {line}\n")

    piped(monkeypatch, b"\n".join(lines))
    several = seqline(project, "translate", "--run", "seq2seq", "--n-best", "2")
    rows = [row.split(" ||| ") for row in several.out.splitlines()]
    assert [row[0] for row in rows] == ["0", "0", "1", "2", "3", "4", "4"]
    assert [rows[number][1] for number in (0, 2, 3, 4, 5)] == [first, "", "", "", second]
    assert [row[3] for row in rows[2:5]] == ["0.0000", "0.0000", "-inf"]


def test_classify_answers_every_line_and_names_the_blank_ones(
    project: Path, monkeypatch, seqline
) -> None:
    piped(monkeypatch, b"the .\n\nthe the .\n\xe2\x80\x8b\n")
    result = seqline(project, "classify", "--run", "mlp")
    assert result.status == 0
    assert [bool(line) for line in result.out.split("\n")] == [True, False, True, False, False]
    assert (
        result.err == "seqline: standard input, lines 2 and 4: a text without words has no label\n"
    )


def test_a_blank_text_has_no_heatmap_and_more_answers_than_the_limit_are_refused(
    project: Path, seqline
) -> None:
    result = seqline(project, "translate", "a", "--run", "seq2seq", "--n-best", "1000000")
    assert result[::2] == (2, "seqline: n_best: got 1000000; expected a number from 1 to 100.\n")
    result = seqline(project, "translate", "", "--run", "seq2seq", "--heatmap", "x.png")
    assert (result.status, result.err.count("\n")) == (2, 1)


def test_a_version_says_the_same_after_the_run_was_trained_anew(project: Path) -> None:
    before = loaded(f"{NAMES['mlp']}/1")(["so good ."])
    shutil.rmtree(project / ".seqline" / "served")
    content = yaml.safe_load((project / "params.yaml").read_text(encoding="utf-8"))
    content["runs"]["mlp"]["seed"] = 2
    (project / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    trained_project.evaluate(project, "mlp")
    assert registry.version_of_run(project, "mlp").version == 2
    assert loaded(f"{NAMES['mlp']}/1")(["so good ."]) == before
    assert loaded(f"{NAMES['mlp']}/2")(["so good ."]) != before


def test_moved_project_is_requested_and_then_located(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = loaded(f"{NAMES['seq2seq']}/1")(["the cat sleeps ."])
    moved = project.rename(project.parent / "moved")
    try:
        monkeypatch.chdir(moved)
        with pytest.raises(
            UserError, match=r"^SEQLINE_ROOT: got .*project; expected the .* present folder\.$"
        ):
            loaded(f"{NAMES['seq2seq']}/1")
        monkeypatch.setenv("SEQLINE_ROOT", str(moved))
        assert loaded(f"{NAMES['seq2seq']}/1")(["the cat sleeps ."]) == before
    finally:
        moved.rename(project)


def test_a_server_over_http_holds_versions_that_load_from_anywhere(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow_store.connect(tmp_path)
    monkeypatch.chdir(tmp_path)
    with Server(tmp_path / "server", tmp_path / "mlflow.db") as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
        assert len(registry.register(project)) == len(NAMES)
        assert registry.register(project) == []
        version = registry.version_of_run(project, "seq2seq")
        registry.promote(project, version, {"p": "0.01"})
        assert registry.champion(project, version.name) == version
        [reign] = registry.champions(project)[version.name]
        assert reign.why == {"p": "0.01"}
        want = samples(project, "seq2seq")
        found = loaded(f"{version.name}@champion")([sample["prompt"] for sample in want])
        assert [row["text"] for row in found] == [sample["text"] for sample in want]
        (tmp_path / "more").mkdir()
        (tmp_path / "more" / "decision.json").write_text("{}")
        registry.log_artifacts(project, version, tmp_path / "more")
        there = {
            item.path for item in mlflow_store.connect(project).list_artifacts(version.mlflow_run)
        }
        assert "decision.json" in there
