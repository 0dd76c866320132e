"""Retraining with a real DVC, a real registry, a real Prefect server: by hand, on a cron schedule
and when data change."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import flows
import psutil
import pytest
import retrain_project as small
from retrain_project import NAME, retrain
from waiting import HANG_SECONDS, wait_for

from pipeline.dag.project_lock import flow_lock
from pipeline.flow import events, journal, served_schedule
from pipeline.tracking import registry

CRON = "* * * * *"
CHARTS = ("by_length", "confusion", "learning_curves", "scores")
# Two minutes of waiting for the clock, and a training, on machines that are busy too.
pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prefect")


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[str]:
    with flows.server(home) as url:
        yield url


@pytest.fixture(scope="module")
def env(home: Path, server: str) -> dict[str, str]:
    return small.author(flows.surroundings(home, server))


@pytest.fixture(scope="module")
def first(env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that was retrained once, by hand."""
    root = small.create(tmp_path_factory.mktemp("first") / "project")
    done = retrain(root, env)
    assert (done.returncode, done.stderr) == (0, "")
    return root


@pytest.fixture
def root(first: Path, tmp_path: Path) -> Path:
    """A copy of one's own of the project that was retrained once."""
    return Path(shutil.copytree(first, tmp_path / "project"))


def champion(root: Path) -> int:
    found = registry.champion(root, NAME)
    assert found is not None
    return found.version


def runs(server: str, root: Path) -> list[dict[str, Any]]:
    """What the server knows of the runs of the project's deployment, by the time that they were
    due."""
    name = events.deployment_name(root)
    found = flows.ask(
        server,
        "flow_runs/filter",
        deployments={"name": {"any_": [name]}},
        sort="EXPECTED_START_TIME_ASC",
    )
    return list(found)


def due_at(run: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(run["expected_start_time"])


def deployment(server: str, root: Path) -> dict[str, Any]:
    [found] = flows.ask(
        server, "deployments/filter", deployments={"name": {"any_": [events.deployment_name(root)]}}
    )
    return dict(found)


def log_of(root: Path) -> list[Path]:
    return sorted((root / ".seqline" / "logs").rglob("*.log"))


def test_the_first_evaluated_run_becomes_champion_with_its_decision_on_record(
    first: Path, server: str
) -> None:
    assert champion(first) == 1
    [record] = journal.read(first)
    assert (record.flow, record.state, record.because) == ("retrain", "promoted", "manual")
    assert f"{NAME}: mlp (version 1) is promoted: there is no champion" in record.summary
    [kept] = first.glob("mlartifacts/**/gate/nobody/decision.md")
    [shown] = [one for one in flows.ask(server, "artifacts/filter") if one["key"] == NAME]
    assert shown["data"] == kept.read_text()


def test_nothing_changed_is_nothing_done(root: Path, env: dict[str, str]) -> None:
    before, logs = (root / "dvc.lock").read_bytes(), log_of(root)
    done = retrain(root, env)
    assert (done.returncode, done.stderr) == (0, "")
    assert "9 up to date" in done.stdout
    assert f"{NAME}: mlp is still the champion" in done.stdout
    assert journal.read(root)[-1].state == "nothing"
    assert ((root / "dvc.lock").read_bytes(), log_of(root)) == (before, logs)
    assert champion(root) == 1


def test_new_data_lead_to_promotion_publication_and_notification(
    root: Path, env: dict[str, str], tmp_path: Path
) -> None:
    told = [
        sys.executable,
        "-c",
        "import os, sys; open('told', 'w').write(os.environ['SEQLINE_EVENT'] + sys.stdin.read())",
    ]
    publish = {"push": True, "remote": "store", "commit": True, "tag": True}
    small.settings(root, publish=publish, notify={"command": told})
    subprocess.run(
        ["dvc", "remote", "add", "-q", "store", str(tmp_path / "store")],
        cwd=root,
        env=env,
        check=True,
    )
    small.git(root, "add", "flow.yaml")  # edits of the user's own, staged and not
    (root / "params.yaml").write_text((root / "params.yaml").read_text() + "# mine\n")
    small.drop(root, "train", range(20, 400))
    done = retrain(root, env)
    assert (done.returncode, done.stderr) == (0, "")
    assert champion(root) == 2
    assert "reviews: its source has changed, and its new data were pulled" in done.stdout
    assert (
        f"{NAME}: mlp (version 2) is promoted: better on the champion's test set by " in done.stdout
    )
    assert (root / "told").read_text().startswith("promoted")
    assert f"{NAME}: mlp (version 2) is promoted" in (root / "told").read_text()
    assert list((tmp_path / "store").rglob("*.dir"))
    committed = small.git(root, "show", "--name-only", "--format=%s", "HEAD").splitlines()
    assert committed[0] == f"Retrained: {NAME}/2 champion"
    assert set(committed[2:]) == {
        "dvc.lock",
        *(f"reports/charts/{kind}/classification_reviews.csv" for kind in CHARTS),
        "reports/comparison.md",
        "reports/corpora/reviews.json",
        "reports/summary.json",
        "reports/test_looks.csv",
    }
    assert small.git(root, "rev-parse", f"champion/{NAME}/2") == small.git(
        root, "rev-parse", "HEAD"
    )
    assert small.git(root, "diff", "--name-only", "--cached") == "flow.yaml"
    assert "params.yaml" in small.git(root, "diff", "--name-only")


def test_later_retraining_publishes_pending_promotion(
    root: Path, env: dict[str, str], tmp_path: Path
) -> None:
    """As after a kill between the two, of a promotion that came and of one that did not; then as
    after a failed push."""
    pending = root / ".seqline/flow/unpublished.json"
    assert not pending.exists(), "the first one left nothing"
    pending.write_text(f'["{NAME}/1", "{NAME}/9"]')
    small.settings(root, publish={"push": True, "remote": "store", "tag": True})
    done = retrain(root, env)
    assert (done.returncode, done.stderr) == (0, "")
    assert "dvc push failed: " in done.stdout
    assert f"git tag: champion/{NAME}/1\n" in done.stdout
    assert f"{NAME}/9" not in done.stdout
    assert pending.exists()
    assert journal.read(root)[-1].state == "nothing"
    subprocess.run(
        ["dvc", "remote", "add", "-q", "store", str(tmp_path / "store")],
        cwd=root,
        env=env,
        check=True,
    )
    done = retrain(root, env)
    assert f"{NAME}/1 is champion since an earlier retraining, and is published now" in done.stdout
    assert list((tmp_path / "store").rglob("*.dir"))
    assert not pending.exists()
    assert journal.read(root)[-1].state == "promoted"


def test_next_retraining_recovers_from_kill_during_evaluation(
    root: Path, env: dict[str, str]
) -> None:
    small.drop(root, "train", range(20, 400))

    def asked() -> list[psutil.Process]:
        return [
            one
            for one in flows.inhabitants(root)
            if any("/contests/" in word for word in words(one))
        ]

    def words(process: psutil.Process) -> list[str]:
        with suppress(psutil.Error):
            return process.cmdline()
        return []

    with flows.started(root, env, "retrain") as process:
        left = wait_for(asked, "a contender that is asked")
        process.kill()
        process.wait()
        assert any(one.is_running() for one in left)
    assert champion(root) == 1
    done = retrain(root, env)
    assert (done.returncode, done.stderr) == (0, "")
    assert not any(one.is_running() for one in left)
    assert champion(root) == 2
    assert [record.state for record in journal.read(root)] == ["promoted", "", "promoted"]
    assert flows.inhabitants(root) == []


def test_the_status_knows_a_deployment_for_a_work_pool_and_none_of_another_project(
    root: Path, env: dict[str, str], server: str
) -> None:
    retraining = flows.ask(server, "flows/", name="retrain")["id"]
    for name, place in (("nightly", root), ("theirs", root.parent)):
        pull = [{"prefect.deployments.steps.set_working_directory": {"directory": str(place)}}]
        given = {
            "parameters": {"root": ".", "jobs": None},
            "pull_steps": pull,
            "paused": name == "nightly",
        }
        flows.ask(server, "deployments/", name=name, flow_id=retraining, **given)
    [told] = [
        line
        for line in flows.seqline(root, env, "status").stdout.splitlines()
        if line.startswith("server")
    ]
    assert told.endswith(f"{server}: paused")


def test_failure_keeps_champion_and_is_reported_in_status(root: Path, env: dict[str, str]) -> None:
    small.settings(root, notify={"command": ["sh", "-c", "echo $SEQLINE_EVENT > told"]})
    (root / "drop" / "train.positive").write_bytes(b"caf\xe9\n" * 100)
    done = retrain(root, env)
    assert done.returncode == 1
    assert "FAILED tokenize@reviews: " in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert (root / "told").read_text() == "failed\n"
    assert champion(root) == 1
    status = flows.seqline(root, env, "status")
    assert status.returncode == 1
    lines = dict(line.split(maxsplit=1) for line in status.stdout.splitlines())
    assert lines["failed"].startswith("1 of the last 2; ")
    assert "tokenize@reviews" in lines["failed"]
    assert lines["champion"].startswith(f"{NAME}/1, mlp")
    assert ": promoted in " in status.stdout, "the last success is there still"


def test_second_manual_retraining_is_refused_while_one_runs(
    root: Path, env: dict[str, str]
) -> None:
    with flow_lock(root, wait=False):
        done = retrain(root, env)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "another flow at work (process " in done.stderr
    assert len(journal.read(root)) == 1


def ended(process: "subprocess.Popen[str]", root: Path) -> str:
    """End it as Ctrl-C does, between two runs; what it said."""
    wait_for(
        lambda: not psutil.pid_exists(journal.read(root)[-1].pid),
        "the end of the last run's process",
    )
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == 0, said
    return said


def test_data_change_starts_a_run_and_restart_merges_missed_runs(
    root: Path, env: dict[str, str], server: str
) -> None:
    words = ["schedule", "--on-data-change", "--every", "0.5"]
    with flows.started(root, env, *words) as process:
        wait_for(lambda: (root / ".seqline/flow/schedule.json").exists(), "the schedule")
        assert runs(server, root) == []
        (root / "drop" / "unused.txt").write_text("no reader reads it\n")
        [run] = wait_for(
            lambda: [run for run in runs(server, root) if run["state_type"] == "COMPLETED"], "a run"
        )
        assert (run["name"], run["created_by"]["type"]) == ("reviews changed", "AUTOMATION")
        assert (root / "data/raw/reviews/unused.txt").exists()
        assert "reviews changed" in ended(process, root)
    assert deployment(server, root)["paused"]
    due = [(datetime.now(UTC) - timedelta(minutes=minutes)).isoformat() for minutes in (30, 20, 10)]
    for at in due:
        state = {"type": "SCHEDULED", "state_details": {"scheduled_time": at}}
        flows.ask(
            server, f"deployments/{deployment(server, root)['id']}/create_flow_run", state=state
        )
    with flows.started(root, env, *words) as process:
        wait_for(
            lambda: all(
                run["state_type"] in ("COMPLETED", "CANCELLED") for run in runs(server, root)
            ),
            "the rest",
        )
        assert sorted(run["state_name"] for run in runs(server, root)) == [
            "Completed",
            "Completed",
            "Skipped",
            "Skipped",
        ]
        assert not deployment(server, root)["paused"]
        ended(process, root)
    assert [record.state for record in journal.read(root)] == ["promoted", "kept", "nothing"]
    assert flows.inhabitants(root) == []


def test_a_cron_schedule_fires_twice_and_its_end_leaves_nothing_behind(
    root: Path, server: str, env: dict[str, str]
) -> None:
    with flows.started(root, env, "schedule", "--cron", CRON) as process:
        check_two_runs_by_the_cron_line(root, server)
        status = flows.seqline(root, env, "status").stdout
        assert f"cron '{CRON}' in " in status
        assert f"served by process {process.pid}" in status
        ended(process, root)
    assert deployment(server, root)["paused"]
    written = served_schedule.read(root)
    assert written is not None
    assert written.ended
    assert flows.inhabitants(root) == []


def check_two_runs_by_the_cron_line(root: Path, server: str) -> None:
    """Wait for them; they began in time, and what was due between them is on record."""

    def fired() -> list[dict[str, Any]]:
        return [
            run
            for run in runs(server, root)
            if run["auto_scheduled"] and run["state_type"] == "COMPLETED"
        ]

    two = wait_for(
        lambda: found if len(found := fired()) > 1 else None, "two runs by the cron line"
    )[:2]
    due = [due_at(run) for run in two]
    assert all(
        datetime.fromisoformat(run["start_time"]) >= time
        for run, time in zip(two, due, strict=True)
    )
    # Every minute from the first to the second is on record; a run that was at work when the next
    # one was due, on a busy machine, made it be skipped.
    between = [run for run in runs(server, root) if due[0] < due_at(run) < due[1]]
    assert all(run["state_name"] == "Skipped" for run in between)
    minutes = [due[0], *map(due_at, between), due[1]]
    assert (due[0].second, due[0].microsecond) == (0, 0)
    assert minutes == [due[0] + timedelta(minutes=number) for number in range(len(minutes))]
    assert {record.state for record in journal.read(root)[1:]} <= {"nothing", ""}
