"""The `seqline` command: presets, abandoned outputs, doctor, and what it refuses."""

import base64
import io
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml
from dvc.utils.serialize import dumps_yaml
from long_cases import mostly_long

from pipeline.cli import (
    arguments,
    champion_table,
    health_checks,
    input_text,
    prediction_stream,
    presets,
    prune,
    store_checks,
)
from pipeline.core.errors import UserError
from pipeline.core.request_text import LONGEST_TEXT
from pipeline.dag import paths

ROOT = Path(__file__).resolve().parents[2]
FROM_HERE = os.environ | {"PYTHONPATH": str(ROOT)}
PRESETS = ["default", *sorted(file.stem for file in (ROOT / "presets").glob("*.yaml"))]


def preset_text(name: str) -> str:
    return (ROOT / ("params.yaml" if name == "default" else f"presets/{name}.yaml")).read_text(
        encoding="utf-8"
    )


def params(root: Path) -> dict:
    return yaml.safe_load((root / "params.yaml").read_text())


def commit(root: Path) -> None:
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@example.org"]
    subprocess.run([*git, "commit", "-q", "-am", "change"], cwd=root, check=True)


def add_own_files(root: Path) -> None:
    """Put a file wherever params.yaml expects one of the user's own."""
    for corpus in params(root)["corpora"].values():
        if "path" in corpus["source"]:
            folder = root / corpus["source"]["path"]
            folder.mkdir()
            for sides in corpus["read"]["files"].values():
                for name in [*sides["source"], *sides["target"]]:
                    (folder / name).write_text("a\n")


@pytest.fixture
def another_preset(project: Path) -> str:
    """A preset like the default one but for its first line."""
    text = (project / "params.yaml").read_text()
    (project / "presets" / "another.yaml").write_text("# One more preset.\n" + text)
    return "another"


@pytest.mark.parametrize("name", mostly_long(PRESETS, {"default", "d2l"}.__contains__))
def test_every_preset_is_in_order(name: str, project, seqline) -> None:
    said = seqline(project, "use", name)
    assert (said.status, said.err) == (0, "")
    assert (project / "params.yaml").read_text(encoding="utf-8") == preset_text(name)
    add_own_files(project)
    assert seqline(project, "check").status == 0


def test_the_project_s_own_params_are_in_order(project, seqline) -> None:
    said = seqline(project, "check")
    assert (said.status, said.err) == (0, "")
    assert "all in order" in said.out


def test_the_default_preset_survives_a_commit_of_another_preset(project, seqline) -> None:
    default = (project / "params.yaml").read_bytes()
    assert seqline(project, "use", "multi30k").status == 0
    commit(project)
    lines = seqline(project, "use").out.splitlines()
    assert lines[0].startswith("  default      The default preset: ")
    assert seqline(project, "use", "default").status == 0
    assert (project / "params.yaml").read_bytes() == default
    assert not (project / "presets" / "default.yaml").exists()


def test_the_default_preset_is_the_one_committed_last(project, seqline) -> None:
    path = project / "params.yaml"
    path.write_text(path.read_text().replace("bootstrap: 1000", "bootstrap: 500"))
    commit(project)
    assert seqline(project, "use", "d2l").status == 0
    commit(project)
    assert seqline(project, "use", "default").status == 0
    assert params(project)["evaluation"]["bootstrap"] == 500


def test_shallow_clone_message_shows_how_to_get_default_preset(project, seqline, tmp_path) -> None:
    assert seqline(project, "use", "d2l").status == 0
    commit(project)
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", "--depth=1", project.as_uri(), clone], check=True)
    said = seqline(clone, "use", "default")
    assert said.status == 2
    assert said.err.startswith("seqline: preset: got default; expected one of book, ")
    assert "git fetch --unshallow" in said.err
    subprocess.run(["git", "fetch", "-q", "--unshallow"], cwd=clone, check=True)
    assert seqline(clone, "use", "default").status == 0


def test_presets_but_the_default_one_need_no_git(project, seqline) -> None:
    (project / ".git").rename(project / "moved")
    (project / "params.yaml").unlink()
    assert seqline(project, "use", "d2l").status == 0
    assert [line.split()[0] for line in seqline(project, "use").out.splitlines()] == [
        "*" if name == "d2l" else name for name in PRESETS[1:]
    ]
    assert seqline(project, "use", "default").status == 2


def test_a_broken_default_preset_is_refused_in_a_line(project, seqline) -> None:
    path = project / "params.yaml"
    path.write_text(path.read_text() + "runs: [\n")
    commit(project)
    said = seqline(project, "use", "default", "--set", "evaluation.seed=2")
    assert said.status == 2
    assert said.err.startswith("seqline: the committed params.yaml: got ")
    assert said.err.count("\n") == 1


def test_a_preset_that_has_a_key_twice_is_refused_by_it_and_its_line(
    project, another_preset, seqline
) -> None:
    with (project / "presets" / "another.yaml").open("a") as file:
        file.write("\nevaluation: {bootstrap: 10, confidence: 0.9, seed: 1}\n")
    lines = len((project / "presets" / "another.yaml").read_text().splitlines())
    for changes in ([], ["--set", "runs.lstm-1.seed=2"]):
        said = seqline(project, "use", another_preset, *changes)
        assert said.status == 2
        assert said.err.startswith(
            f"seqline: evaluation: got the key once more in line {lines} of another.yaml; expected "
        )
        assert said.err.count("\n") == 1


def test_presets_are_listed_with_description_and_current_mark(
    project, another_preset, seqline
) -> None:
    seqline(project, "use", another_preset)
    lines = seqline(project, "use").out.splitlines()
    assert [line[2:].split()[0] for line in lines] == [
        "default",
        *sorted([another_preset, *PRESETS[1:]]),
    ]
    assert [line for line in lines if line.startswith("*")] == ["* another      One more preset."]
    assert all(len(line.split()) > 2 for line in lines)


def test_an_unknown_preset_is_refused_with_the_choices(project, seqline) -> None:
    said = seqline(project, "use", "d3l")
    assert said.status == 2
    assert said.err == f"seqline: preset: got d3l; expected one of {', '.join(PRESETS)}.\n"


def test_edits_in_no_commit_are_not_lost_unless_forced(project, another_preset, seqline) -> None:
    with (project / "params.yaml").open("a") as file:
        file.write("# mine\n")
    mine = (project / "params.yaml").read_text()
    said = seqline(project, "use", another_preset)
    assert said.status == 2
    assert "--force" in said.err
    assert (project / "params.yaml").read_text() == mine
    assert seqline(project, "use", another_preset, "--force").status == 0


def test_nulls_are_explicit_in_presets_and_empty_in_dvc_files() -> None:
    assert presets.changed("a: null\nb: 1\n", ["b=2"]) == "a: null\nb: 2\n"
    assert dumps_yaml({"a": {"b": None}}) == "a:\n  b:\n"


def test_a_preset_may_follow_a_preset_without_force(project, another_preset, seqline) -> None:
    assert [
        seqline(project, "use", name).status for name in (another_preset, "default", another_preset)
    ] == [0, 0, 0]


def test_set_changes_one_key_and_keeps_the_comments(project, seqline) -> None:
    text = (project / "params.yaml").read_text()
    before = yaml.safe_load(text)
    assert (
        seqline(project, "use", "default", "--set", "settings.lstm.training.max_epochs=2").status
        == 0
    )
    changed = set((project / "params.yaml").read_text().splitlines()) ^ set(text.splitlines())
    assert changed <= {"      max_epochs: 2", "      max_epochs: 5"}
    before["settings"]["lstm"]["training"]["max_epochs"] = 2
    assert params(project) == before


def test_set_with_a_star_changes_every_setting(project, seqline) -> None:
    changes = ["--set", "settings.*.training.max_epochs=1", "--set", "corpora.toy_*.limit=50"]
    assert seqline(project, "use", "default", *changes).status == 0
    trainings = [block["training"] for block in params(project)["settings"].values()]
    assert {training["max_epochs"] for training in trainings if training is not None} == {1}
    assert {corpus["limit"] for corpus in params(project)["corpora"].values()} == {50}


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ("runs.lstm-1.seeds=2", "--set runs.lstm-1.seeds: got no such key in the preset"),
        ("runs.lstm-1.seed", "--set: got runs.lstm-1.seed; expected KEY=VALUE"),
        ("runs.lstm-1.seed=two", "runs.lstm-1.seed: got two; expected a whole number."),
        ("runs.lstm-1.seed=[", "--set runs.lstm-1.seed: got while parsing a flow node"),
        (
            "settings.lstm.optim.learning_rate=1.e3",
            "--set settings.lstm.optim.learning_rate: got 1.e3; expected a number. Write it",
        ),
    ],
)
def test_a_change_that_no_stage_could_use_leaves_params_alone(
    change: str, line: str, project, seqline
) -> None:
    before = sorted((file, file.read_bytes()) for file in project.glob("*.yaml"))
    said = seqline(project, "use", "default", "--set", change)
    assert said.status == 2
    assert said.err.startswith(f"seqline: {line}"), said.err
    assert sorted((file, file.read_bytes()) for file in project.glob("*.yaml")) == before
    assert list(project.glob(".params.yaml.partial")) == []


def ran(root: Path, outs: dict[str, str]) -> None:
    """Leave the project as if DVC had run these stages, each with one output."""
    for path in outs.values():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        if Path(path).suffix:
            (root / path).write_text("{}")
        else:
            (root / path).mkdir()
            (root / path / "file").write_text("x")
    stages = {name: {"cmd": "x", "outs": [{"path": path}]} for name, path in outs.items()}
    (root / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))


def test_use_removes_only_outputs_of_other_runs(project, seqline) -> None:
    ran(
        project,
        {
            "train@old": "data/models/old",
            "evaluate@old": "reports/metrics/old.json",
            "train@lstm-1": "data/models/lstm-1",
        },
    )
    (project / "data" / "models" / "by_hand").mkdir()
    said = seqline(project, "use", "default")
    assert said.status == 0
    assert "data/models/old" in said.out
    assert sorted(path.name for path in (project / "data" / "models").iterdir()) == [
        "by_hand",
        "lstm-1",
    ]
    assert not (project / "reports" / "metrics" / "old.json").exists()


def test_prune_removes_outputs_after_a_manual_edit(project, seqline, edited) -> None:
    ran(
        project,
        {"train@lstm-1": "data/models/lstm-1", "train@transformer-1": "data/models/transformer-1"},
    )
    edited(project, "runs.lstm-1", ...)
    assert seqline(project, "prune").status == 0
    assert [path.name for path in (project / "data" / "models").iterdir()] == ["transformer-1"]
    assert seqline(project, "prune").out == ""


def test_prune_removes_recomputable_files_unused_for_a_month(project, seqline) -> None:
    place, now, made = project / ".seqline", time.time(), []
    for name in (
        "served/ab.dir",
        "training/lstm-0",
        "logs/2026-01-02",
        "gate/compare/z",
        "flow/contests/x",
        "tracking/y",
    ):
        for age, days in (("new", 29), ("old", 31)):
            made.append(name + age)
            folder = place / made[-1]
            folder.mkdir(parents=True)
            (folder / "file").write_text("x")
            for path in (folder / "file", folder):
                os.utime(path, (now - days * 86400, now - days * 86400))
    # an old folder in which a file is new: a training that goes on
    (place / "training/lstm-1old").mkdir()
    (place / "training/lstm-1old/state").write_text("x")
    os.utime(place / "training/lstm-1old", (0, 0))
    said = seqline(project, "prune")
    assert (said.status, said.err) == (0, "")
    gone = {"served/ab.dirold", "training/lstm-0old", "logs/2026-01-02old", "gate/compare/zold"}
    assert {name for name in made if not (place / name).exists()} == gone
    assert (place / "training/lstm-1old/state").exists()
    assert all(f".seqline/{name}\n" in said.out for name in gone)


@pytest.mark.long
def test_a_reader_that_leaves_ends_a_command_without_a_word(project) -> None:
    code = "import sys; sys.argv[0] = 'seqline'; from pipeline import cli; cli.main()"
    for command in (["use"], ["check"], ["status"]):
        asked = [sys.executable, "-c", code, *command]
        with subprocess.Popen(
            asked, cwd=project, env=FROM_HERE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.close()
            assert process.stderr.read() == b""
        assert process.returncode == 128 + signal.SIGPIPE, command


@pytest.mark.parametrize(
    ("wrong", "status", "said"),
    [
        ("raise UserError('a: got b; expected c.')", 2, "seqline: a: got b; expected c.\n"),
        ("raise BrokenPipeError(32, 'of another pipe')", 1, "of another pipe"),
        ("sys.exit(3)", 3, ""),
    ],
)
@pytest.mark.parametrize("read", [True, False])
@pytest.mark.parametrize("buffered", [True, False])
def test_error_is_reported_even_if_output_pipe_is_closed(
    buffered: bool, read: bool, wrong: str, status: int, said: str
) -> None:
    env = {name: value for name, value in FROM_HERE.items() if name != "PYTHONUNBUFFERED"}
    env |= {} if buffered else {"PYTHONUNBUFFERED": "1"}
    code = f"""import sys
from pipeline.core.errors import UserError, exit_with
def main():
    print("a line")
    {wrong}
exit_with(main)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        if read:
            assert process.stdout.read() == "a line\n"
        else:
            process.stdout.close()
        told = process.stderr.read()
    if not read and (not buffered or "BrokenPipe" in wrong):  # the line before could not be said
        assert (process.returncode, told) == (128 + signal.SIGPIPE, "")
    else:
        assert (process.returncode, said in told, told == "") == (status, True, not said)


def test_nothing_outside_of_the_project_is_ever_removed(project) -> None:
    outside = project.parent / "precious"
    ran(project, {"train@old": "../precious"})
    with pytest.raises(UserError, match="outside of the project"):
        prune.remove_outputs(project)
    assert outside.exists()


def test_stages_are_named_as_dvc_names_them() -> None:
    from source_code import dag as by_dvc

    assert paths.stage_names(ROOT) == {node.address for node in by_dvc()}


def test_paths_of_a_run_come_out_of_the_dag(project) -> None:
    block = params(project)["runs"]["lstm-1"]
    found = {
        name: paths.option_path(project, "predict", "lstm-1", block, name)
        for name in ("model", "vocab")
    }
    assert found == {
        "model": project / "data/models/lstm-1",
        "vocab": project / "data/vocab" / block["corpus"],
    }


def test_commands_work_from_any_folder_of_the_project(project, seqline) -> None:
    assert seqline(project / "presets", "check").status == 0


def test_commands_outside_of_a_project_say_so(tmp_path: Path, seqline) -> None:
    said = seqline(tmp_path, "check")
    assert said.status == 2
    assert "outside of a project" in said.err


@pytest.mark.parametrize("command", [["translate", "hello"], ["generate", "once"]])
def test_unknown_or_untrained_run_is_refused_with_advice(
    command: list[str], project, seqline
) -> None:
    unknown = seqline(project, *command, "--run", "lstn")
    assert unknown.status == 2
    assert unknown.err.startswith(
        "seqline: --run: got lstn; expected a setting or a run, one of rnn, gru, lstm, "
    )
    assert unknown.err.endswith(" Did you mean 'lstm'?\n")
    untrained = seqline(project, *command, "--run", "lstm")
    assert untrained.status == 2
    assert untrained.err == (
        "seqline: --run lstm-1: got no data/models/lstm-1; expected a trained run. "
        "Run `dvc repro`, or `dvc pull`.\n"
    )


def test_doctor_reports_problems_and_fails_only_for_errors(
    project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        health_checks, "lock", lambda root: health_checks.Finding("ok", "lock", "up to date")
    )
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("SEQLINE_MIRROR", str(project / "nowhere"))
    found = {finding.subject: finding for finding in health_checks.run_checks(project)}
    assert found["dvc"].state == "FAIL", "the project was never initialised for DVC"
    assert "dvc init" in found["dvc"].todo
    for finding in found.values():
        assert finding.state == "ok" or finding.todo, f"{finding.subject}: what to do?"
    assert found["mirror"].state == "FAIL"
    assert found["params"].state == found["git"].state == found["store"].state == "ok"
    assert not (project / "mlflow.db").exists(), "looking must not make the store"


@pytest.mark.parametrize("place", ["127.0.0.1:9", "127.0.0.1:9/under/a/path", "[::1]:9"])
def test_doctor_tells_a_tracking_server_that_is_gone(
    place: str, project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://somebody:secret@{place}")
    finding = store_checks.store(project)
    assert finding.state == "warn"
    assert finding.detail.startswith(f"http://{place}: ")
    assert "secret" not in finding.detail


def test_doctor_asks_a_tracking_server_as_the_user_it_is_given(
    project, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Guarded(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            right = (
                self.headers.get("Authorization")
                == f"Basic {base64.b64encode(b'somebody:secret').decode()}"
            )
            self.send_response(200 if right and self.path == "/health" else 401)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Guarded) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        found = []
        for password in ("secret", "wrongsecret"):
            monkeypatch.setenv(
                "MLFLOW_TRACKING_URI", f"http://somebody:{password}@127.0.0.1:{server.server_port}"
            )
            found.append(store_checks.store(project))
        server.shutdown()
    answers = f"http://127.0.0.1:{server.server_port} answers 200"
    assert found[0] == ("ok", "store", answers, "")
    assert found[1].state == "warn"
    assert "401" in found[1].detail
    assert "secret" not in found[1].detail


@pytest.mark.parametrize(
    "uri", ["postgres://somebody:secret@127.0.0.1:9/db", "nonsense+x://somebody:secret@host/db"]
)
def test_doctor_fails_for_an_unusable_database(
    uri: str, project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    finding = store_checks.store(project)
    assert finding.state == "FAIL", "no such kind of database"
    assert "secret" not in finding.detail


def test_doctor_counts_the_runs_of_a_database_and_makes_no_table_in_it(
    project, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = project / "other.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite+pysqlite:///{file}")
    assert store_checks.store(project).detail.endswith(
        "(created at the first training or `seqline sync`)"
    )
    with sqlite3.connect(file) as opened:
        assert opened.execute("select * from sqlite_master").fetchall() == []
        opened.execute("create table runs (id)")
        opened.execute("insert into runs values (1)")
    finding = store_checks.store(project)
    assert (finding.state, finding.detail) == ("ok", f"sqlite+pysqlite:///{file} with 1 runs")


def test_doctor_tells_a_broken_store(project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (project / "mlflow.db").write_bytes(b"no database")
    assert store_checks.store(project).state == "FAIL"


NUMBERS = [
    (["run", "--jobs", "0"], "--jobs", 1024),
    (["run", "--jobs", "-1"], "--jobs", 1024),
    (["retrain", "--jobs", "1000000000"], "--jobs", 1024),
    (["schedule", "--interval", "1h", "--jobs", "0"], "--jobs", 1024),
    (["ui", "--port", "99999999"], "--port", 65_535),
    (["serve", "m", "--port", "0"], "--port", 65_535),
    (["serve", "m", "--port", "-5"], "--port", 65_535),
    (["promote", "m", "99999999999999999999"], "VERSION", 2**31 - 1),
    (["promote", "m", "0"], "VERSION", 2**31 - 1),
    (["translate", "a", "--run", "x", "--n-best", "0"], "--n-best", 2**63 - 1),
    (["translate", "a", "--run", "x", "--n-best", "9" * 5000], "--n-best", 2**63 - 1),
    (["generate", "a", "--run", "x", "--seed", "1.5"], "--seed", 2**63 - 1),
    (["generate", "a", "--run", "x", "--seed", "9" * 20], "--seed", 2**63 - 1),
]


@pytest.mark.parametrize(("command", "option", "largest"), NUMBERS, ids=range(len(NUMBERS)))
def test_a_number_outside_of_its_range_is_refused_in_one_short_line(
    command, option, largest, project, seqline
) -> None:
    result = seqline(project, *command)
    assert (result.status, result.out, result.err.count("\n")) == (2, "", 1)
    assert result.err.startswith(f"seqline: {option}: got ")
    assert f" to {largest}. See `seqline {command[0]} --help`." in result.err
    assert len(result.err) < 250


@pytest.mark.parametrize("option", ["--interval", "--every"])
@pytest.mark.parametrize(
    "time", ["0", "-1", "1e9", "367d", "99999999999999999d", "9" * 5000 + "d", "nonsense"]
)
def test_a_time_that_is_none_or_too_long_is_refused_in_one_line(
    option: str, time: str, project, seqline
) -> None:
    result = seqline(
        project,
        "schedule",
        *(["--on-data-change"] if option == "--every" else []),
        f"{option}={time}",
    )
    assert (result.status, result.out, result.err.count("\n")) == (2, "", 1)
    assert result.err.startswith(f"seqline: {option}: got ")
    assert len(result.err) < 250


@pytest.mark.parametrize(
    "command",
    [["no-such"], ["translate", "a", "b"], ["check", "--nonsense"], ["compare", "lstm"]],
)
def test_a_command_line_that_makes_no_sense_is_refused_in_one_line(
    command: list[str], project, seqline
) -> None:
    result = seqline(project, *command)
    assert (result.status, result.out, result.err.count("\n")) == (2, "", 1)
    assert result.err.startswith("seqline: ")
    assert "--help`" in result.err


def as_the_system_gives_it(raw: bytes) -> str:
    """An argument of these bytes, as Python has it in `sys.argv`."""
    return raw.decode("utf-8", "surrogateescape")


@pytest.mark.parametrize(
    "command",
    [
        ["translate", b"the caf\xe9 .", "--run", "lstm"],
        ["translate", "a", "--run", b"caf\xe9"],
        ["translate", "a", "--run", "lstm", "--prefix", b"caf\xe9"],
        ["translate", "a", "--run", "lstm", "--heatmap", b"caf\xe9.png"],
        ["generate", b"caf\xe9", "--run", "lstm"],
        ["classify", b"caf\xe9", "--run", "lstm"],
        ["compare", b"caf\xe9", "lstm"],
        ["promote", b"caf\xe9"],
        ["promote", "lstm", "--why", b"caf\xe9"],
        ["champions", "--of", b"caf\xe9"],
        ["use", b"caf\xe9"],
        ["use", "default", "--set", b"runs.lstm-1.seed=caf\xe9"],
        ["run", b"caf\xe9"],
        ["serve", b"caf\xe9"],
        [b"caf\xe9"],
    ],
    ids=range(15),
)
def test_bytes_on_the_command_line_that_are_not_utf8_are_refused_by_name(
    command, project, seqline
) -> None:
    words = [as_the_system_gives_it(word) if isinstance(word, bytes) else word for word in command]
    result = seqline(project, *words)
    assert (result.status, result.out, result.err.count("\n")) == (2, "", 1)
    assert result.err.startswith("seqline: argument '")
    assert "caf\\xe9" in result.err
    assert "': got byte 0xe9; expected UTF-8. Convert it, for example with iconv." in result.err


def test_utf8_on_the_command_line_is_read_in_a_locale_of_ascii() -> None:
    word = "où".encode().decode("ascii", "surrogateescape")
    assert arguments.decode(["run", word, "où"]) == ["run", "où", "où"]


def read(
    content: bytes, encoding: str = "utf-8"
) -> list[tuple[int | None, str | None, str | None]]:
    """Number, text and error of every line of a standard input."""
    stream = io.TextIOWrapper(io.BytesIO(content), encoding=encoding)
    return [
        (line.number, line.text, line.error and str(line.error))
        for line in input_text.lines(stream)
    ]


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        (b"", []),
        (b"a", ["a"]),
        (b"a\n", ["a"]),
        (b"a\r\nb\rc\n", ["a", "b", "c"]),
        (b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n", ["a", "\ufeffb"]),
        (b"\n\n", ["", ""]),
        (b"a\x00b\n\x1b[2J\n", ["a\x00b", "\x1b[2J"]),
        ("a\u2028b\x85c\x0cd\n".encode(), ["a\u2028b\x85c\x0cd"]),
        (b"x" * LONGEST_TEXT + b"\ny", ["x" * LONGEST_TEXT, "y"]),
    ],
    ids=range(9),
)
def test_lines_of_standard_input_come_as_they_are(content: bytes, texts: list[str]) -> None:
    expected = [(number, text, None) for number, text in enumerate(texts, 1)]
    assert read(content) == expected
    assert read(content, "ascii") == expected  # a locale without a name


def test_bad_input_lines_do_not_affect_others() -> None:
    records = read(
        b"a\ncaf\xe9\n" + b"x" * (LONGEST_TEXT + 1) + b"\n" + b"y" * 100_000 + b"\nb\xff"
    )
    assert [text for _, text, _ in records] == ["a", None, None, None, None]
    byte = (
        "standard input: got byte {}, line {}; expected UTF-8. Convert it, for example with iconv."
    )
    limit = f"expected at most {LONGEST_TEXT}. Divide it into sentences."
    long = f"standard input: got more than {LONGEST_TEXT} characters, line {{}}; {limit}"
    expected = [
        None,
        byte.format("0xe9", 2),
        long.format(3),
        long.format(4),
        byte.format("0xff", 5),
    ]
    assert [error for _, _, error in records] == expected


def test_refused_text_does_not_affect_other_predictions() -> None:
    def answer(texts: list[str]) -> list[str]:
        if "bad" in texts:
            raise UserError("text: got bad; expected good.")
        return [text.upper() for text in texts]

    lines = input_text.lines(io.StringIO("a\nbad\nb\nbad\n" + "c\n" * 100))
    answers = prediction_stream.PredictionStream(lines, answer)
    assert [answer for _, answer in answers] == ["A", None, "B", None, *["C"] * 100]
    expected = "standard input, line 2: text: got bad; expected good. Also failed: line 4."
    with pytest.raises(UserError, match=f"^{expected}$"):
        answers.finish()


def test_a_closed_standard_input_and_a_folder_in_its_place_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^standard input: got closed; expected an open one"):
        list(input_text.lines(None))

    class Folder(io.StringIO):
        def readline(self, size: int = -1, /) -> str:
            raise IsADirectoryError(21, "Is a directory")

    with pytest.raises(
        UserError, match=r"^standard input: got Is a directory; expected a text that can be read"
    ):
        list(input_text.lines(Folder()))


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_output_takes_every_character_in_every_locale(encoding: str) -> None:
    code = (
        "from pipeline.cli import arguments; "
        "arguments.prepare_output(); print('où \\u4e2d \\udce9')"
    )
    env = FROM_HERE | {"PYTHONIOENCODING": encoding}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, check=True
    )
    expected = {"latin-1": b"o\xf9 \\u4e2d \\udce9\n"}.get(encoding, "où \u4e2d \\udce9\n".encode())
    assert done.stdout == expected


def test_names_from_outside_cannot_steer_a_terminal(project, capsys) -> None:
    table = champion_table.aligned([("model", "why"), ("a", "\x1b[31mred\nnext"), ("\u202eb", "c")])
    assert table.count("\n") == 2
    assert "\\x1b[31mred\\nnext" in table
    assert not {"\x1b", "\u202e"} & set(table)
    arguments.print_escaped("a\x1b]0;title\x07\nb")
    assert capsys.readouterr().out == "a\\x1b]0;title\\x07\nb\n"
