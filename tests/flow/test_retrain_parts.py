"""What surrounds a retraining, each part alone: what flows leave on disk, whom they tell, what they
publish, and when."""

import asyncio
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import flows
import httpx
import psutil
import pytest
import retrain_project as small
import yaml
from waiting import wait_for

from pipeline.core import state_dir
from pipeline.core.errors import UserError
from pipeline.dag import force_stage, refresh
from pipeline.dag.project_lock import flow_lock
from pipeline.download.source import DownloadSettings, obtain
from pipeline.flow import (
    challenge,
    events,
    journal,
    notify,
    publish,
    retry_forever,
    schedule,
    sections,
    served_schedule,
    status,
)
from pipeline.flow.journal import Record
from pipeline.flow.notify import Notify
from pipeline.flow.publish import Publish
from pipeline.promotion import settings as rules

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
GONE = 2**22 + 1  # above any process's number


def at(minutes: float) -> str:
    """So many minutes from NOW."""
    return (NOW + timedelta(minutes=minutes)).isoformat(timespec="seconds")


def flow(began: float, state: str = "kept", pid: int = GONE) -> Record:
    ended = at(began + 1) if state else ""
    return Record(
        id=f"{began}",
        flow="retrain",
        pid=pid,
        because="x",
        began=at(began),
        ended=ended,
        state=state,
    )


def plan(*due: float, ended: str = "", pid: int = GONE) -> served_schedule.ServedSchedule:
    times = tuple(at(minutes) for minutes in due)
    return served_schedule.ServedSchedule(
        words="hourly", pid=pid, since=at(-500), seen=at(-1), ended=ended, due=times
    )


# --- records


def test_a_flow_is_on_record_however_it_ended(tmp_path: Path) -> None:
    with journal.record_flow(tmp_path, "retrain", "manual") as record:
        assert [(one.ended, one.state) for one in journal.read(tmp_path)] == [("", "")]
        record.state, record.summary = "kept", "two lines\nof text"
    with pytest.raises(UserError), journal.record_flow(tmp_path, "retrain"):
        raise UserError("a.b: got 1; expected 2.")
    with pytest.raises(KeyboardInterrupt), journal.record_flow(tmp_path, "run"):
        raise KeyboardInterrupt
    found = journal.read(tmp_path)
    assert [(one.flow, one.state, one.succeeded) for one in found] == [
        ("retrain", "kept", True),
        ("retrain", "failed", False),
        ("run", "cancelled", False),
    ]
    assert [one.summary for one in found[:2]] == ["two lines\nof text", "a.b: got 1; expected 2."]
    assert all(one.ended >= one.began for one in found)


def test_truncated_history_line_does_not_hide_others(tmp_path: Path) -> None:
    with journal.record_flow(tmp_path, "run"):
        pass
    with (tmp_path / state_dir.JOURNAL).open("a") as file:
        file.write('{"id": "x", "flow": "retr')
    assert [one.flow for one in journal.read(tmp_path)] == ["run"]


# --- what was missed


@pytest.mark.parametrize(
    ("made", "flows", "missed"),
    [
        (plan(-90, -30, 30), [flow(-100)], [-90, -30]),
        (plan(-90, -30, 30), [flow(-60)], [-30]),
        (plan(-90, -30, 30), [flow(-30.1)], []),  # by another clock it came in time
        (plan(-90, -30, 30), [flow(-10)], []),  # late, but it stands in for both
        (plan(-90, -30, 30), [], [-90, -30]),
        (plan(-1, 30), [], []),  # it may be on its way
        # they wait for the one that is at work
        (plan(-90, -30, 30), [flow(-100, state="", pid=os.getpid())], []),
        (plan(-90, -30, 30), [flow(-100, state="")], [-90, -30]),  # that one was cut off
        (plan(-90, -30, 30, ended=at(-60)), [flow(-100)], [-90]),  # after its end none was due
    ],
)
def test_due_runs_that_did_not_start_are_missed(
    made: served_schedule.ServedSchedule, flows: list[Record], missed: list[float], tmp_path: Path
) -> None:
    with flow_lock(tmp_path, wait=False):
        assert served_schedule.missed_runs(tmp_path, made, flows, NOW) == [
            at(minutes) for minutes in missed
        ]


@pytest.fixture
def reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[dict[str, str], bool]]:
    """`seqline status` of a project with these records and no server."""
    for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    monkeypatch.setattr("pipeline.flow.prefect_server.configured_url", lambda: None)

    def report(
        made: served_schedule.ServedSchedule | None, *flows: Record
    ) -> tuple[dict[str, str], bool]:
        if made:
            served_schedule.write(tmp_path, made)
        for record in flows:
            journal._append(tmp_path, record)
        found = status.report(tmp_path, NOW)
        assert not (tmp_path / "mlflow.db").exists(), "looking must not make the store"
        return dict(found.lines), found.healthy

    return report


def test_status_without_retrainings_gives_the_first_command(reported) -> None:
    lines, well = reported(None)
    assert well
    assert "seqline retrain" in lines["retraining"]
    assert "seqline schedule" in lines["retraining"]
    assert not {"last run", "schedule", "next run", "server"} & set(lines)
    assert lines["running"] == "nothing"


def test_status_shows_missed_run_and_unserved_schedule(reported) -> None:
    lines, well = reported(plan(-90, -30, 30), flow(-100, "promoted"))
    assert not well
    assert lines["missed"].startswith("2 overdue")
    assert "its process no longer exists" in lines["schedule"]
    assert lines["next run"] == "none"
    assert ": promoted in 60 s" in lines["last success"]


def test_status_shows_interrupted_flow_and_last_success(reported, tmp_path: Path) -> None:
    with served_schedule.schedule_lock(tmp_path):
        lines, well = reported(plan(30, pid=os.getpid()), flow(-100, "kept"), flow(-5, ""))
    assert not well
    assert "killed" in lines["last run"]
    assert ": kept in 60 s" in lines["last success"]
    assert lines["failed"].startswith("1 of the last 2")
    assert "missed" not in lines


def test_the_status_of_a_schedule_in_order_names_the_next_run(reported, tmp_path: Path) -> None:
    with served_schedule.schedule_lock(tmp_path):
        lines, well = reported(plan(30, 90, pid=os.getpid()), flow(-5, "nothing"))
    assert well
    assert datetime.fromisoformat(lines["next run"]).astimezone(UTC) == NOW + timedelta(minutes=30)
    assert f"served by process {os.getpid()}" in lines["schedule"]


def test_reused_process_number_does_not_hide_a_dead_flow(reported, tmp_path: Path) -> None:
    made, records = (
        plan(-90, 30, pid=os.getpid()),
        [flow(-100, "kept"), flow(-95, "", pid=os.getpid())],
    )
    lines, well = reported(made, *records)
    assert not well
    assert "its process no longer exists" in lines["schedule"]
    assert "killed" in lines["last run"]
    assert (lines["running"], lines["next run"]) == ("nothing", "none")
    assert lines["missed"].startswith("1 overdue")
    with flow_lock(tmp_path, wait=False), served_schedule.schedule_lock(tmp_path):
        lines, well = reported(None)
    assert well
    assert f"(process {os.getpid()})" in lines["running"]
    assert "running" in lines["last run"]
    with flow_lock(tmp_path, wait=False):
        (tmp_path / ".seqline/flow/lock").write_text("1")
        assert reported(None)[0]["running"] == "nothing", "another flow holds the lock"


def test_two_processes_never_serve_one_schedule(tmp_path: Path) -> None:
    served_schedule.write(tmp_path, plan(pid=1234))
    with (
        served_schedule.schedule_lock(tmp_path),
        pytest.raises(UserError, match="process 1234"),
        served_schedule.schedule_lock(tmp_path),
    ):
        raise AssertionError
    with served_schedule.schedule_lock(tmp_path):
        pass


# --- when


@pytest.mark.parametrize(
    ("text", "expected"), [("90", 90), ("90s", 90), ("15m", 900), ("2h", 7200), ("1.5d", 129_600)]
)
def test_times_are_read_with_their_units(text: str, expected: float) -> None:
    assert schedule.seconds(text, "--interval") == expected


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ((None, None, False, "60", None), "seqline schedule"),
        (("0 3 * *", None, False, "60", None), "--cron"),
        (("0 3 30 2 *", None, False, "60", None), "--cron"),
        (("every night", None, False, "60", None), "--cron"),
        (("61 3 * * *", None, False, "60", None), "--cron"),
        ((None, "0", False, "60", None), "--interval"),
        ((None, "3 weeks", False, "60", None), "--interval"),
        ((None, None, True, "soon", None), "--every"),
        ((None, "1h", False, "60", 0), "--jobs"),
    ],
)
def test_a_time_that_is_none_is_refused(options: tuple, key: str) -> None:
    with pytest.raises(UserError, match=rf"^{key}: got .*; expected ") as caught:
        schedule.terms(*options)
    assert "\n" not in str(caught.value)


@pytest.mark.long
def test_schedule_without_server_is_refused_with_advice(tmp_path: Path) -> None:
    env = flows.surroundings(tmp_path / "prefect", None)
    done = flows.seqline(
        small.ROOT,
        env | {"PREFECT_API_URL": "http://127.0.0.1:9/api"},
        "schedule",
        "--interval",
        "1h",
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "http://127.0.0.1:9/api, which does not answer" in done.stderr
    assert "prefect server start" in done.stderr
    assert "export PREFECT_API_URL=" in done.stderr


@pytest.fixture
def polling_modules(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, ...]:
    """Prefect's modules that poll the server, as Prefect has them again after the test."""
    for module in retry_forever._MODULES:
        monkeypatch.setattr(module, "critical_service_loop", module.critical_service_loop)
    return retry_forever._MODULES


def test_polling_continues_while_server_is_unreachable(polling_modules: tuple[Any, ...]) -> None:
    requests: list[int] = []

    async def request() -> None:
        requests.append(1)
        if len(requests) == 10:
            raise KeyError("a fault of ours")
        raise httpx.ConnectError("no server")

    retry_forever.install()
    for module in polling_modules:
        requests.clear()
        poll = module.critical_service_loop(workload=request, interval=0.0, jitter_range=0.3)
        with pytest.raises(KeyError):
            asyncio.run(poll)
        assert len(requests) == 10


@pytest.mark.parametrize("enabled", [True, False])
def test_the_setting_selects_prefect_s_own_polling_or_retry_forever(
    enabled: bool,
    polling_modules: tuple[Any, ...],
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from prefect.utilities.services import critical_service_loop

    async def run(serving: schedule._Serving) -> None:
        expected = retry_forever._poll_forever if enabled else critical_service_loop
        for module in polling_modules:
            assert module.critical_service_loop is expected

    small.settings(project, schedule={"retry_forever": enabled})
    monkeypatch.chdir(project)
    monkeypatch.setattr(schedule.prefect_server, "require_standing_server", lambda: None)
    monkeypatch.setattr(schedule.prefect_server, "exposure_warning", lambda: "")
    monkeypatch.setattr(schedule._Serving, "run", run)
    schedule.serve(project, schedule.terms(None, "1h", False, "1", None))


def test_a_schedule_is_refused_where_flow_yaml_does_not_choose_the_polling(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    (project / "flow.yaml").write_text(
        (project / "flow.yaml").read_text().replace("  retry_forever", "  # retry_forever")
    )
    with pytest.raises(UserError, match=r"^schedule: got None; expected a section with the keys"):
        schedule.serve(project, schedule.terms(None, "1h", False, "1", None))
    text = (project / "flow.yaml").read_text()
    (project / "flow.yaml").write_text(text.replace("schedule: #", "schedule: {} #"))
    with pytest.raises(UserError, match=r"^schedule\.retry_forever: got nothing; expected "):
        schedule.serve(project, schedule.terms(None, "1h", False, "1", None))


# --- whom it tells


def notification_output(
    command: list[str] | None, event: notify.Event = "kept", tmp_path: Path = Path()
) -> str:
    settings = Notify(
        command=tuple(command) if command is not None else None,
        events=("promoted", "kept", "failed"),
    )
    return notify.run_command(tmp_path, settings, event, "all of it")


def test_the_command_gets_the_summary_and_the_event(tmp_path: Path) -> None:
    write = (
        "import os, sys; open('told', 'w').write(os.environ['SEQLINE_EVENT'] + ': ' + "
        "sys.stdin.read())"
    )
    assert notification_output([sys.executable, "-c", write], tmp_path=tmp_path) == ""
    assert (tmp_path / "told").read_text() == "kept: all of it\n"


def test_no_notification_when_nothing_changed(tmp_path: Path) -> None:
    assert (
        notification_output(["touch", "told"], "nothing", tmp_path)
        == notification_output(None, "kept", tmp_path)
        == ""
    )
    assert not (tmp_path / "told").exists()


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (
            ["no-such-program"],
            "notify.command: got no-such-program: No such file or directory; expected ",
        ),
        (
            ["sh", "-c", "echo no such host; exit 3"],
            "notify.command: got status 3 from sh (no such host); expected 0",
        ),
        (["sleep", "60"], "notify.command: got nothing within 0.2 s; expected sleep to end"),
        (["true"], ""),  # it reads nothing of what it is told
    ],
)
def test_failing_command_is_reported_in_one_line(
    command: list[str], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify, "_SECONDS", 0.2 if command[0] == "sleep" else 60.0)
    assert notification_output(command, tmp_path=tmp_path).startswith(line)


# --- what it publishes


@pytest.fixture
def reported_project(tmp_path: Path) -> Path:
    """A repository with a lock, a report that git has, and one that it ignores."""
    (tmp_path / ".gitignore").write_text("/data/\n")
    outs = ["reports/new.json", "reports/old.json", "data/model"]
    lock = {"stages": {"evaluate@x": {"outs": [{"path": path, "md5": "1"} for path in outs]}}}
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump(lock))
    for name in ("reports/old.json", "data/model", "params.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("before")
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "start"]):
        small.git(tmp_path, *words)
    (tmp_path / "reports/old.json").write_text("after")
    (tmp_path / "reports/new.json").write_text("after")
    (tmp_path / "reports/notes.txt").write_text("of the user's own")
    (tmp_path / "params.yaml").write_text("edited")
    return tmp_path


def published(root: Path, monkeypatch: pytest.MonkeyPatch, **settings: bool) -> list[str]:
    for name, value in small.author({}).items():
        monkeypatch.setenv(name, value)
    wanted = Publish(**{"push": False, "remote": None, "commit": False, "tag": False} | settings)
    return publish.publish(root, wanted, ["name/7"], "Retrained").lines


def test_commit_contains_only_dag_outputs(reported_project: Path, monkeypatch) -> None:
    small.git(reported_project, "add", "params.yaml")
    [line] = published(reported_project, monkeypatch, commit=True)
    assert line == f"git commit: {small.git(reported_project, 'rev-parse', '--short', 'HEAD')}"
    names = small.git(reported_project, "show", "--name-only", "--format=", "HEAD").split()
    assert names == ["reports/new.json", "reports/old.json"]
    assert small.git(reported_project, "diff", "--cached", "--name-only") == "params.yaml"
    assert "?? reports/notes.txt" in small.git(reported_project, "status", "--porcelain")
    assert published(reported_project, monkeypatch, commit=True) == [
        "git commit: nothing to commit"
    ]


def test_a_tag_is_on_a_commit_that_holds_the_champion_beside_the_branch_if_need_be(
    reported_project: Path, monkeypatch
) -> None:
    before = small.git(reported_project, "rev-parse", "HEAD")
    assert published(reported_project, monkeypatch, tag=True) == ["git tag: champion/name/7"]
    assert small.git(reported_project, "show", "champion/name/7:reports/new.json") == "after"
    assert small.git(reported_project, "show", "champion/name/7:params.yaml") == "before"
    assert small.git(reported_project, "rev-parse", "HEAD", "champion/name/7~1").split() == [
        before,
        before,
    ]
    assert "reports/old.json" in small.git(reported_project, "diff", "--name-only").split(), (
        "the index is as it was"
    )
    [again] = published(reported_project, monkeypatch, tag=True)
    assert again == "git tag: champion/name/7 is there already"
    (reported_project / "dvc.lock").write_text(
        (reported_project / "dvc.lock").read_text() + "# another\n"
    )
    [other] = published(reported_project, monkeypatch, tag=True)
    assert other.startswith("git tag failed: champion/name/7 already exists")


def test_failed_publication_is_reported_without_raising(tmp_path: Path, monkeypatch) -> None:
    lines = published(tmp_path, monkeypatch, push=True, commit=True, tag=True)
    assert [line.partition(" failed: ")[0] for line in lines] == [
        "dvc push",
        "git commit",
        "git tag",
    ]
    assert all("\n" not in line for line in lines)


# --- sources that are not pinned


@pytest.fixture
def loose(project: Path, edited) -> Path:
    """A project whose corpus toy_reviews came from an address, where it lies unpinned: a file, for
    the time being."""
    served, raw = project / "served.txt", project / "data/raw/toy_reviews"
    served.write_text("one\n")
    source = {
        "files": [{"name": "a.txt", "sha256": None, "bytes": None, "urls": [served.as_uri()]}]
    }
    edited(project, "corpora.toy_reviews.source", source)
    raw.mkdir(parents=True)
    obtain("toy_reviews", source, raw, DownloadSettings("", project / state_dir.DOWNLOADS))
    return project


def test_a_file_that_is_not_pinned_is_seen_to_change_by_its_content_alone(loose: Path) -> None:
    assert refresh.compare_sources(loose) == refresh.SourceChanges({}, ())
    os.utime(loose / "served.txt")
    assert refresh.compare_sources(loose) == refresh.SourceChanges({}, ())
    (loose / "served.txt").write_text("two\n")
    first = refresh.compare_sources(loose)
    assert (list(first.changed), first.troubles) == (["toy_reviews"], ())
    (loose / "served.txt").write_text("three\n")
    assert refresh.compare_sources(loose).changed != first.changed, (
        "another change has another hash"
    )


def test_unreachable_address_is_reported_and_changes_nothing(loose: Path) -> None:
    (loose / "served.txt").unlink()
    found = refresh.compare_sources(loose)
    assert not found.changed
    [trouble] = found.troubles
    assert trouble.startswith("corpora.toy_reviews.source.files[0] (a.txt): got file://")
    assert "\n" not in trouble


# --- flow.yaml


@pytest.mark.parametrize(
    ("section", "key", "value", "line"),
    [
        ("publish", "push", "yes please", "publish.push: got yes please; expected true or false"),
        ("publish", "pull", True, "publish.pull: got an unknown key"),
        ("download", "seconds", -1, "download.seconds: got -1.0; expected more than 0"),
        ("download", "hours", 1, "download.hours: got an unknown key"),
        ("schedule", "retry_forever", "no", "schedule.retry_forever: got no; expected true or"),
        ("schedule", "retries", 3, "schedule.retries: got an unknown key"),
        ("notify", "command", [], "notify.command: got no words"),
        ("notify", "command", "mail", "notify.command: got mail; expected "),
        (
            "notify",
            "events",
            ["won"],
            "notify.events[0]: got won; expected one of promoted, kept, failed, nothing",
        ),
    ],
)
def test_mistake_in_flow_yaml_names_its_key(
    section: str, key: str, value: object, line: str, project: Path
) -> None:
    small.settings(project, **{section: {key: value}})
    with pytest.raises(UserError) as caught:
        sections.load(project)
    assert str(caught.value).startswith(line)


def test_check_reads_flow_yaml_too(project: Path, seqline) -> None:
    small.settings(project, notify={"command": []})
    said = seqline(project, "check")
    assert (said.status, said.out) == (2, "")
    assert said.err.startswith("seqline: notify.command: got no words")


@pytest.mark.parametrize(
    ("baselines", "line"),
    [
        ({"language_model-toy_story": "grv"}, "got grv; expected one of "),
        (
            {"language_model-toy_story": "seq2seq-1"},
            "got seq2seq-1, a run of translation on toy_en_fr; expected a run of language_model ",
        ),
        ({"language_model-toy_story": 3}, "got 3; expected a text"),
        ({"language_model-toy_story": None}, None),
        ({"language_model-of_another_preset": "grv"}, None),
        ({"language_model-toy_story": "lstm-1"}, None),
    ],
)
def test_a_baseline_is_checked_before_anything_runs(
    baselines: dict[str, object], line: str | None, project: Path, seqline
) -> None:
    small.settings(project, gate={"beats_baseline": baselines})
    said = seqline(project, "check")
    if line is None:
        assert (said.status, said.err) == (0, "")
        return
    assert said.status == 2
    assert said.err.startswith(f"seqline: gate.beats_baseline.language_model-toy_story: {line}")
    assert len(said.err.splitlines()) == 1


def test_a_section_that_flow_yaml_does_not_know_is_refused(project: Path) -> None:
    with (project / "flow.yaml").open("a") as file:
        file.write("noitfy: {}\n")
    with pytest.raises(UserError, match=r"^flow.yaml: noitfy: got an unknown section"):
        sections.load(project)


# --- what a kill leaves

_STUCK = "open('began', 'a').write(f'{os.getpid()} '); time.sleep(600)"


def stuck(root: Path, program: str) -> tuple["subprocess.Popen[bytes]", int]:
    """A process that holds the project's lock and runs the program, and the process that this waits
    for."""
    text = (
        "from pathlib import Path\nfrom pipeline.dag.project_lock import flow_lock\nwith "
        f"flow_lock(Path(), wait=False):\n {program}"
    )
    env = flows.surroundings(root / "prefect", None)
    process = subprocess.Popen(
        [sys.executable, "-c", text], cwd=root, env=env, stderr=subprocess.DEVNULL
    )
    began = root / "began"
    wait_for(lambda: began.exists() and began.read_text().endswith(" "), "the stage")
    return process, int(began.read_text())


def gone(pid: int) -> bool:
    """Whether it has ended; whoever adopted it may be slow to say so."""
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@pytest.fixture
def downloads(tmp_path: Path) -> Path:
    """A project of DVC's whose one stage never ends."""
    subprocess.run(
        ["dvc", "init", "-q", "--no-scm"],
        cwd=tmp_path,
        env=flows.surroundings(tmp_path, None),
        check=True,
    )
    (tmp_path / "work.py").write_text(f"import os, time\n{_STUCK}\n")
    stages = {"download": {"foreach": ["x"], "do": {"cmd": "python work.py", "outs": ["${item}"]}}}
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    for name in ("flow.yaml", "params.yaml"):
        shutil.copy(small.ROOT / name, tmp_path)
    return tmp_path


def test_interrupted_data_pull_leaves_no_download(downloads: Path) -> None:
    process, pid = stuck(
        downloads, "from pipeline.dag import force_stage\n force_stage.force(Path(), 'download@x')"
    )
    process.send_signal(signal.SIGINT)
    process.wait()
    assert gone(pid)
    assert list((downloads / ".seqline/flow/groups").iterdir()) == []
    [log] = downloads.glob(".seqline/logs/*/download@x.log")
    assert "Running stage 'download@x'" in log.read_text()


def test_failed_download_is_retried_and_shows_its_own_message(downloads: Path) -> None:
    said = "seqline: x: got no answer from http://y, 4 times; expected one."
    (downloads / "work.py").write_text(
        f"import sys\nopen('began', 'a').write('.')\nsys.exit({said!r})\n"
    )
    small.settings(downloads, run={"retries": 1, "retry_seconds": 0.01})
    with pytest.raises(
        UserError, match=r"^x: got no answer from http://y, 4 times; expected one\.$"
    ):
        force_stage.force(downloads, "download@x")
    assert (downloads / "began").read_text() == ".."


@pytest.mark.long
@pytest.mark.parametrize(
    "program",
    [
        "from pipeline.dag import force_stage\n force_stage.force(Path(), 'download@x')",
        (
            "from pipeline.flow import challenge\n "
            "challenge.RecordedCommands(Path())(['python', 'work.py'], Path('log'))"
        ),
    ],
    ids=["refresh", "contest"],
)
def test_next_flow_ends_processes_of_a_killed_one(downloads: Path, program: str) -> None:
    process, pid = stuck(downloads, program)
    process.kill()
    process.wait()
    assert not gone(pid)
    with flow_lock(downloads, wait=False):
        wait_for(lambda: flows.inhabitants(downloads) == [], "the end of what was left")
    assert gone(pid)


def test_the_gate_s_stages_are_on_record_in_a_contest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[object] = []
    monkeypatch.setattr("pipeline.promotion.challenge", lambda *words: given.append(words[6]))
    version = SimpleNamespace(
        name="name", run="x", version=1, places=dict.fromkeys(("model", "vocab", "tokens"), "y")
    )
    for name in ("flow.yaml", "params.yaml"):
        shutil.copy(small.ROOT / name, tmp_path)
    settings = rules.load(tmp_path / "flow.yaml")
    challenge._decide(tmp_path, settings, None, version, None)  # type: ignore[arg-type]
    [launch] = given
    assert isinstance(launch, challenge.RecordedCommands)
    assert (
        launch(
            [sys.executable, "-c", "import os; assert os.getpgid(0) == os.getpid(); print(3)"],
            tmp_path / "log",
        )
        == 0
    )
    assert (tmp_path / "log").read_text() == "3\n"
    assert list((tmp_path / ".seqline/flow/groups").iterdir()) == []


# --- what comes after a promotion


def test_a_promotion_counts_whatever_fails_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prefect's server is gone when the decision is to be shown, and another contest breaks
    down."""
    from pipeline.flow import retrain

    version = SimpleNamespace(version=2, run="mlp")
    won = challenge.Verdict(
        name="a", event="promoted", line="a: won", version=version, markdown="# a"
    )  # type: ignore[arg-type]

    def settle(root: Path, name: str, runs: list[str]) -> challenge.Verdict:
        if name != "a":
            raise UserError(f"no {name}")
        return won

    def lost(*_: object, **__: object) -> None:
        raise httpx.ConnectError("no server")

    monkeypatch.setattr(challenge, "evaluate", settle)
    monkeypatch.setattr(challenge, "runs_by_model", lambda root: {"b": ["x"], "a": ["y"]})
    monkeypatch.setattr(retrain, "create_markdown_artifact", lost)
    monkeypatch.setattr(retrain, "get_run_logger", lambda: logging.getLogger("test"))
    function = retrain.evaluate_challenger.fn
    monkeypatch.setattr(
        retrain, "evaluate_challenger", SimpleNamespace(with_options=lambda **_: function)
    )
    done = retrain.Progress()
    assert not retrain.evaluate_challengers(tmp_path, done)
    assert done.changed
    assert done.lines == [
        "FAILED challenger evaluation of b: no b",
        "a: won\na: the decision is missing on Prefect's pages: no server",
    ]


def test_pending_change_is_announced_again_after_a_delay(
    loose: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    async def emit(root: Path, changed: Mapping[str, str]) -> None:
        told.extend(changed)

    async def looks(number: int) -> int:
        for _ in range(number):
            await watch.check()
        return len(told)

    monkeypatch.setattr(events, "emit", emit)
    watch = events.SourceWatcher(loose)
    (loose / "served.txt").write_text("two\n")
    assert asyncio.run(looks(5)) == 1
    monkeypatch.setattr(events, "_REPEAT_SECONDS", 0.0)
    with flow_lock(loose, wait=False), journal.record_flow(loose, "retrain"):
        assert asyncio.run(looks(1)) == 1, "it is at work on it"
    assert asyncio.run(looks(1)) == 2
