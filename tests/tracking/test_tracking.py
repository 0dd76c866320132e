"""Live tracking and `sync` against real stores and real servers: what MLflow shows, and what it
costs the training."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from tracking_project import (
    TOP,
    TRAINING,
    Server,
    all_runs,
    curve,
    digest_of,
    empty_store,
    finish,
    followers,
    project,
    stalling,
    start_training,
    unused_port,
    write_project,
)
from waiting import wait_for

from pipeline import tracking
from pipeline.core.errors import UserError
from pipeline.serving import mlflow_ui
from pipeline.tracking import (
    artifacts,
    describe,
    follower,
    live_log,
    mlflow_store,
    run_lock,
    run_outputs,
    sender,
    spools,
)

__all__ = ["empty_store", "project", "stalling"]  # fixtures


def artifact(root: Path, run: Any, name: str) -> Path:
    return artifacts._local_path(root, f"{run.info.artifact_uri}/{name}")


@pytest.mark.long
def test_curves_appear_while_the_training_runs_and_its_process_imports_no_mlflow(
    project: Path,
) -> None:
    training = start_training(project, 100_000, 0.05)
    client = mlflow_store.connect(project)
    try:
        first = wait_for(lambda: curve(client, project))
        assert wait_for(lambda: len(curve(client, project)) > len(first))
        [run] = all_runs(client)
        assert run.info.status == "RUNNING"
        assert run.data.params["model.hidden"] == "8"
        assert run.data.params["corpus_settings.text.level"] == "word"
        assert run.data.tags.items() >= {"device": "cpu", "family": "recurrent_lm"}.items()
        assert [given.dataset.digest for given in run.inputs.dataset_inputs] == [f"{1:032x}.dir"]
        assert "mlflow" not in Path(f"/proc/{training.pid}/maps").read_text()
    finally:
        training.kill()
        training.wait()
    wait_for(lambda: all_runs(client)[0].info.status == "KILLED")
    wait_for(lambda: not followers(project))


@pytest.mark.long
def test_resumed_training_continues_its_run_without_duplicate_steps(project: Path) -> None:
    killed = start_training(project, 100_000, 0.01)
    client = mlflow_store.connect(project)
    wait_for(lambda: len(curve(client, project)) > 30)
    killed.kill()
    killed.wait()
    wait_for(lambda: all_runs(client)[0].info.status == "KILLED")
    reached = curve(client, project)[-1]
    finish(start_training(project, reached + 40, 0.01, start=reached - 20))
    wait_for(lambda: all_runs(client)[0].info.status == "FINISHED")
    assert curve(client, project) == list(range(1, reached + 41))
    assert len(all_runs(client)) == 1


@pytest.mark.long
def test_a_failed_training_is_shown_as_failed_with_the_figures_that_mlflow_can_name(
    project: Path,
) -> None:
    def diverge() -> None:
        with tracking.live(run="lstm", digest=digest_of("lstm"), work=project, root=project) as log:
            log({"train/loss": float("nan"), "chrF2++": 1.0}, 1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        diverge()
    client = mlflow_store.connect(project)
    wait_for(lambda: [run.info.status for run in all_runs(client)] == ["FAILED"])
    assert {"train/loss", "chrF2:2B::2B:"} <= set(all_runs(client)[0].data.metrics)


@pytest.mark.long
def test_several_trainings_at_once_on_no_store_make_one_store_with_a_run_each(
    tmp_path: Path,
) -> None:
    names = ("a", "b", "c", "d")
    write_project(tmp_path, names)
    trainings = [start_training(tmp_path, 20, 0.01, run=name) for name in names]
    for training in trainings:
        finish(training)
    wait_for(lambda: not followers(tmp_path))
    client = mlflow_store.connect(tmp_path)
    assert sorted(run.info.run_name for run in all_runs(client)) == list(names)
    assert all(curve(client, tmp_path, name) == list(range(1, 21)) for name in names)
    assert list((tmp_path / ".seqline/tracking").glob("*.lock")), (
        "the folder in which stores are made has another place"
    )
    assert not list((tmp_path / ".seqline/tracking").glob("*.partial"))


def test_sync_records_a_restored_run_once_with_all_that_dvc_holds_of_it(project: Path) -> None:
    assert "lstm: recorded" in tracking.sync(project)
    before = (project / "mlflow.db").read_bytes()
    assert "recorded" not in tracking.sync(project)
    assert (project / "mlflow.db").read_bytes() == before
    client = mlflow_store.connect(project)
    [run] = all_runs(client)
    assert run.info.status == "FINISHED"
    provenance = json.loads(artifact(project, run, "provenance.json").read_text())
    assert provenance["signatures"] == {"test/bleu/signature": "nrefs:1|tok:13a"}
    assert provenance["deps"]["pipeline/models/recurrent_lm.py"] == f"{3:032x}"
    assert provenance["search"]["method"] == "sampling"
    assert run.data.metrics == {
        "score": 4.25,
        "test/perplexity": 4.25,
        "test/bleu": 12.5,
        "train/loss": 1 / 40,
        "valid/perplexity": 3.5,
    }
    assert run.data.tags["score"] == "perplexity 4.25 [4.00, 4.50]"
    assert len([tag for tag in run.data.tags if not tag.startswith("mlflow.")]) <= 11
    scores = json.loads(artifact(project, run, "scores.json").read_text())
    assert scores["test"]["perplexity"] == {"score": 4.25, "low": 4.0, "high": 4.5}
    assert run.data.params["parameters"] == "321"
    assert curve(client, project) == list(range(1, 41))
    [score] = client.get_metric_history(run.info.run_id, "test/perplexity")
    assert score.step == 40


@pytest.mark.long
def test_sync_adds_only_values_missing_from_live_tracking(project: Path) -> None:
    finish(start_training(project, 25, 0.0))
    wait_for(lambda: not followers(project))
    client = mlflow_store.connect(project)
    assert curve(client, project) == list(range(1, 26))
    assert "16 points" in tracking.sync(project)  # 26 to 40, and the validation
    assert curve(client, project) == list(range(1, 41))
    assert len(all_runs(client)) == 1


@pytest.mark.parametrize(
    ("path", "content", "said"),
    [
        ("data/models/lstm/config.json", "{", "got Expecting property name"),
        (
            "data/models/lstm/config.json",
            "[]",
            "got list; expected JSON of a stage: a mapping. Run `dvc repro -f train@lstm`.",
        ),
        (
            "data/models/lstm/config.json",
            '{"run": null, "digest": "1"}',
            "got no 'run'; expected what the train stage",
        ),
        (
            "data/models/lstm/config.json",
            '{"run": {}}',
            "got no 'digest'; expected what the train stage writes.",
        ),
        ("data/models/lstm/history.parquet", "no table", "expected a Parquet file. Delete it"),
        ("data/predictions/lstm/samples.parquet", "no table", "expected a Parquet file. Delete it"),
        (
            "reports/metrics/lstm.json",
            "\xff",
            "expected the scores of the run lstm. Run `dvc repro -f evaluate@lstm`.",
        ),
    ],
)
def test_damaged_output_is_reported_in_one_line(
    path: str, content: str, said: str, project: Path
) -> None:
    (project / path).write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError) as error:
        tracking.sync(project)
    assert str(error.value).startswith(f"{project / path}: got ")
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_new_scores_of_the_same_model_replace_the_old_ones_in_its_run(project: Path) -> None:
    tracking.sync(project)
    scores = {"test": {"perplexity": {"score": 4.0}}}
    (project / "reports/metrics/lstm.json").write_text(json.dumps(scores), encoding="utf-8")
    assert "lstm: brought up to date (0 points" in tracking.sync(project)
    client = mlflow_store.connect(project)
    [run] = all_runs(client)
    assert run.data.metrics["test/perplexity"] == 4.0


def test_scores_of_another_model_are_not_recorded(project: Path) -> None:
    lock = yaml.safe_load((project / "dvc.lock").read_text())
    lock["stages"]["train@lstm"]["outs"] = [{"path": "data/models/lstm", "md5": f"{9:032x}.dir"}]
    (project / "dvc.lock").write_text(yaml.safe_dump(lock), encoding="utf-8")
    tracking.sync(project)
    [run] = all_runs(mlflow_store.connect(project))
    assert "test/perplexity" not in run.data.metrics
    assert "valid/perplexity" in run.data.metrics


def stopped_with_the_lock(project: Path) -> int | None:
    """The follower, stopped while it holds the run's lock; None if it does not: between two calls
    to the store it is free."""
    for pid in followers(project):
        os.kill(pid, signal.SIGSTOP)
        if run_lock.is_held(project, ("lstm", digest_of("lstm"))):
            return pid
        os.kill(pid, signal.SIGCONT)
    return None


@pytest.mark.long
def test_sync_does_not_wait_for_a_follower_that_the_system_lets_wait_nor_ends_it(
    project: Path, stalling: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The follower holds the run's lock and gets no processor; once it does, it sees that sync has
    the run, and leaves."""
    finish(start_training(project, 40, 0.0, MLFLOW_TRACKING_URI=stalling))
    follower = wait_for(lambda: stopped_with_the_lock(project))
    try:
        assert "lstm: " in tracking.sync(project)
        message = f"finishing the record of lstm, which process {follower} began"
        assert message in capsys.readouterr().err
        assert followers(project) == [follower], "it was ended"
    finally:
        os.kill(follower, signal.SIGCONT)
    wait_for(lambda: not followers(project))
    assert curve(mlflow_store.connect(project), project) == list(range(1, 41))
    assert all_runs(mlflow_store.connect(project))[0].info.status == "FINISHED"


@pytest.mark.long
def test_sync_kills_no_process_by_the_number_in_a_lock(project: Path) -> None:
    """As an older version, or another PID namespace, wrote it: here it is the number of a
    bystander."""
    with subprocess.Popen(["sleep", "600"]) as bystander:
        lock = run_lock._lock_path(project, ("lstm", digest_of("lstm")))
        lock.parent.mkdir(parents=True, exist_ok=True)
        with lock.open("a+") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            handle.write(str(bystander.pid))
            handle.flush()
            assert "lstm: recorded" in tracking.sync(project)
        assert bystander.poll() is None
        bystander.kill()


def test_a_sync_waits_for_another_sync_and_takes_nothing_over(project: Path) -> None:
    key = ("lstm", digest_of("lstm"))
    with run_lock.sole(project, key, lambda: False, "sync") as ours:
        run_lock.take_over(project, key, 0.0)
        assert ours()
        with (
            pytest.raises(run_lock.Busy, match=f"process {os.getpid()}"),
            run_lock.sole(project, key, lambda: False, "sync"),
        ):
            pass
    with run_lock.sole(project, key, lambda: False, "follower") as ours:
        run_lock.take_over(project, key, 0.0)
        assert not ours()
        with run_lock.sole(project, key, lambda: False, "sync") as theirs:
            assert theirs()


@pytest.mark.parametrize(
    "key", [("../../up", "../x"), ("a/b", "/etc"), ("..", "."), ("a" * 400, "\0")]
)
def test_a_lock_lies_in_its_folder_whatever_the_run_and_digest_are_called(
    key: tuple[str, str], tmp_path: Path
) -> None:
    with run_lock.sole(tmp_path, key, lambda: False, "sync"):
        assert [path.parent for path in tmp_path.rglob("*.lock")] == [run_lock.locks(tmp_path)]


@pytest.mark.long
@pytest.mark.parametrize("server", ["dead", "stalling"])
def test_unreachable_server_does_not_delay_training_and_sync_backfills(
    server: str, project: Path, stalling: str
) -> None:
    uri = stalling if server == "stalling" else "http://127.0.0.1:9"
    # how little it costs, the benchmark measures
    finish(start_training(project, 40, 0.05, MLFLOW_TRACKING_URI=uri))
    # the training did not wait for it: it is at its first call still
    [follower] = followers(project)
    tracking.sync(project)
    assert curve(mlflow_store.connect(project), project) == list(range(1, 41))
    with suppress(ProcessLookupError):  # sync has the run now, which may have ended it
        os.kill(follower, signal.SIGKILL)


def test_sync_with_a_dead_server_says_so_in_one_line(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(
        UserError, match=r"^MLFLOW_TRACKING_URI: got http://127\.0\.0\.1:9; expected"
    ) as error:
        tracking.sync(project)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "mysql", "http"])
@pytest.mark.parametrize("asked", ["sync", "ui"])
def test_no_message_holds_the_password_of_the_store(
    scheme: str, asked: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{scheme}://somebody:secret@127.0.0.1:9/db")
    with pytest.raises(
        UserError, match=rf"^MLFLOW_TRACKING_URI: got {scheme}://127\.0\.0\.1:9/db; expected "
    ) as error:
        tracking.sync(project) if asked == "sync" else mlflow_ui.ui(project, unused_port())
    assert "secret" not in str(error.value)
    assert "\n" not in str(error.value)


def test_no_message_and_no_server_argument_holds_the_password_of_a_file(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        describe, "uri", lambda root: f"sqlite:///{root / 'mlflow.db'}?password=secret"
    )
    assert tracking.sync(project).endswith(
        "\nMLflow is up to date: 1 of 1 runs; 1 new or completed."
    )
    assert tracking.sync(project) == "MLflow is up to date: 1 of 1 runs."
    assert not any("secret" in word for word in mlflow_ui.command(project, 5000))


def test_the_follower_s_log_holds_no_password(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise OSError("no answer from 'postgresql://somebody:secret@127.0.0.1/db'")

    class Late(follower.Watch):
        def __init__(self) -> None:
            pass

        def late(self) -> bool:
            return True

        def returned(self) -> None:
            pass

    with pytest.raises(TimeoutError):
        follower.retry(fail, Late(), mlflow_store.Failure)
    assert capsys.readouterr().out.endswith("OSError: no answer from 'postgresql://127.0.0.1/db'\n")


@pytest.mark.long
def test_restarted_server_has_full_curves_and_artifacts(
    project: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(project / "server", empty_store)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    with server:
        client = mlflow_store.connect(project)
        training = start_training(project, 100_000, 0.01)
        wait_for(lambda: len(curve(client, project)) > 20)
    time.sleep(2)  # nobody there
    with server:
        reached = len(wait_for(lambda: curve(client, project)))
        wait_for(lambda: len(curve(client, project)) > reached)
        training.kill()
        training.wait()
        wait_for(lambda: all_runs(client)[0].info.status == "KILLED")
        steps = curve(client, project)
        assert steps == list(range(1, len(steps) + 1))
        tracking.sync(project)
        [run] = all_runs(client)
        assert run.info.status == "FINISHED"
        assert {item.path for item in client.list_artifacts(run.info.run_id)} == {
            "figures",
            "plots",
            "provenance.json",
            "samples.json",
            "scores.json",
        }


def test_a_figure_belongs_to_the_run_whose_folder_it_lies_in() -> None:
    names = ["lstm", "lstm_big", "gru"]
    assert run_outputs.run_of_figure(Path("lstm_big/attention_1.png"), names) == "lstm_big"
    assert run_outputs.run_of_figure(Path("lstm_attention.png"), names) is None
    assert run_outputs.run_of_figure(Path("gru/0.png"), names) == "gru"
    assert run_outputs.run_of_figure(Path("lstms.png"), names) is None


def test_experiments_in_a_temporary_copy_share_the_store_of_their_project(tmp_path: Path) -> None:
    assert describe.home(tmp_path / ".dvc" / "tmp" / "exps" / "standalone" / "tmp1") == tmp_path
    assert describe.home(tmp_path / ".dvc" / "tmp" / "exps" / "tmp1") == tmp_path
    assert describe.home(tmp_path) == tmp_path


def test_tracking_switched_off_starts_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEQLINE_TRACKING", "off")
    with tracking.live(run="a", digest="b", work=tmp_path, root=tmp_path) as log:
        log({"loss": 1.0}, 1)
    assert not list(tmp_path.iterdir())
    assert not followers(tmp_path)


def test_a_full_disk_does_not_stop_the_training(capsys: pytest.CaptureFixture[str]) -> None:
    from pipeline.tracking.live_log import Spool

    with Path("/dev/full").open("wb") as full:
        log = Spool(full)
        for step in range(10_000):
            log({"loss": 1.0}, step)
        log.end("FINISHED")
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())
    assert capsys.readouterr().err.count("tracking stopped, training continues") == 1


def _folder(path: Path) -> None:
    path.mkdir()


SPOOL_FAULTS: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "half a header": lambda path: path.write_bytes(b'{"run": "lstm", "dig'),
    "no mapping": lambda path: path.write_bytes(b"[1]\n2\n"),
    "no text": lambda path: path.write_bytes(bytes(range(256))),
    "brackets": lambda path: path.write_bytes(b"[" * 100_000),
    "a folder": _folder,
    "a link to itself": lambda path: path.symlink_to(path),
}


@pytest.mark.parametrize("fault", SPOOL_FAULTS)
def test_a_damaged_spool_does_not_stop_the_training(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SEQLINE_TRACKING", raising=False)
    monkeypatch.setattr(live_log, "_start_follower", lambda *_: None)
    spool = spools.path_of(tmp_path, ("lstm", "d"))
    spool.parent.mkdir(parents=True)
    SPOOL_FAULTS[fault](spool)
    with tracking.live(run="lstm", digest="d", work=tmp_path, root=tmp_path) as log:
        log({"loss": 1.0}, 1)
    error = capsys.readouterr().err
    assert error == "" or (
        error.count("\n") == 1 and "tracking stopped, training continues" in error
    )
    assert error or [json.loads(line).get("step") for line in spool.open()] == [None, None, 1, None]


def _fail(error: BaseException) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


@pytest.mark.parametrize(
    "error",
    [OSError(24, "Too many open files"), RuntimeError("can't start new thread"), MemoryError()],
)
def test_a_follower_that_cannot_start_does_not_stop_the_training(
    error: Exception,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("SEQLINE_TRACKING", raising=False)
    monkeypatch.setattr(subprocess, "Popen", _fail(error))
    with tracking.live(run="lstm", digest="d", work=tmp_path, root=tmp_path) as log:
        log({"loss": 1.0}, 1)
    assert capsys.readouterr().err.count("tracking stopped, training continues") == 1


def test_settings_and_figures_of_odd_types_do_not_stop_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SEQLINE_TRACKING", raising=False)
    monkeypatch.setattr(live_log, "_start_follower", lambda *_: None)
    settings = {"task": "t", "since": datetime(2026, 1, 1), "of": {1: object()}}
    with tracking.live(
        run="lstm", digest="d", work=tmp_path, root=tmp_path, params=settings
    ) as log:
        log({"loss": "no number"}, 1)  # type: ignore[dict-item]
        log({"loss": 1.0}, 2)
    assert capsys.readouterr().err.count("\n") == 1
    with spools.path_of(tmp_path, ("lstm", "d")).open() as spool:
        assert json.loads(spool.readline())["params"]["since"] == "2026-01-01 00:00:00"


def test_training_continues_without_stderr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEQLINE_TRACKING", raising=False)
    monkeypatch.setattr(sys, "stderr", None)
    spools.path_of(tmp_path, ("lstm", "d")).mkdir(parents=True)
    with tracking.live(run="lstm", digest="d", work=tmp_path, root=tmp_path) as log:
        log({"loss": 1.0}, 1)


def test_follower_failure_is_reported_and_training_continues(project: Path) -> None:
    """Here MLflow is a module that cannot be imported."""
    broken = project / "broken"
    broken.mkdir()
    (broken / "mlflow.py").write_text("raise SystemError('no such symbol')\n")
    command = [
        sys.executable,
        "-c",
        TRAINING,
        str(project),
        "lstm",
        digest_of("lstm"),
        "1000000",
        "0.05",
    ]
    environment = {
        **os.environ,
        "PYTHONPATH": f"{broken}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
    }
    with subprocess.Popen(
        command,
        cwd=TOP,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as training:
        assert training.stderr is not None
        assert (
            "tracking stopped, training continues: the follower ended with status 1, see"
            in training.stderr.readline()
        )
        assert training.poll() is None
        training.kill()


def test_damaged_lines_of_the_spool_are_passed_over(tmp_path: Path) -> None:
    good = b'{"step": 3, "at": 5, "metrics": {"train/loss": 0.5}}\n'
    bad = [
        b"\xff\n",
        b"{\n",
        b"[]\n",
        b"3\n",
        b'{"metrics": 1}\n',
        b'{"metrics": {"a": "x"}, "step": 1, "at": 1}\n',
    ]
    worse = [
        b'{"metrics": {"a": 1}, "step": "x", "at": 1}\n',
        b'{"end": "ODD"}\n',
        b'{"end": []}\n',
        b"[" * 100_000 + b"\n",
    ]
    path = tmp_path / "spool"
    path.write_bytes(
        b"".join([*bad, good, *worse, good.replace(b"3", b"4"), b'{"end": "FINISHED"}\n'])
    )
    with path.open("rb") as lines:
        batches = sender._read_batches(lines, sender.EndedTraining())
        points = [point for batch in batches for point in batch]
    assert [(name, step) for name, _, _, step in points] == [("train/loss", 3), ("train/loss", 4)]


def test_a_half_written_line_is_read_once_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    path.write_bytes(b'{"a": 1}\n{"b"')
    with path.open("rb") as lines, path.open("ab") as writing:
        assert list(sender._complete_lines(lines)) == [b'{"a": 1}\n']
        writing.write(b": 2}\n")
        writing.flush()
        assert list(sender._complete_lines(lines)) == [b'{"b": 2}\n']
