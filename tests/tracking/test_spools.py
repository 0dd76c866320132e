"""Spools: the times of trainings, and nothing that a follower which is killed or gets no processor
can lose."""

import itertools
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tracking_project import (
    all_runs,
    curve,
    digest_of,
    empty_store,
    finish,
    followers,
    parents,
    project,
    run_block,
    start_training,
    write_project,
)
from waiting import wait_for

from pipeline import tracking
from pipeline.cli import health_checks
from pipeline.core.locks import try_lock
from pipeline.tracking import follower, live_log, mlflow_store, run_lock, sender, spools

__all__ = ["empty_store", "project"]  # fixtures
KEY = ("lstm", digest_of("lstm"))
BLOCK = run_block("lstm")


class Clock:
    """A clock that tests set, in milliseconds."""

    def __init__(self) -> None:
        self.now = 1_700_000_000_000

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    """Trainings at times that the test sets, without followers."""
    clock = Clock()
    monkeypatch.setattr(spools, "now", clock)
    monkeypatch.setattr(spools, "steady", clock)
    monkeypatch.setattr(live_log, "_start_follower", lambda *_: None)
    monkeypatch.delenv("SEQLINE_TRACKING", raising=False)
    return clock


class Interruption(Exception):
    """Ends a training as a kill does: without a record."""


def train(root: Path, clock: Clock, seconds: int, *, run: str = "lstm", end: str = "end") -> None:
    """A training of so many seconds with a step in each; `end` is `end`, `fail` or `kill`."""
    steps = [int(record["step"]) for record in records(root, run) if "step" in record]
    with live_log.live(
        run=run, digest=digest_of(run), work=root, root=root, params=BLOCK, tags={"device": "cpu"}
    ) as log:
        for step in range(max(steps, default=0) + 1, max(steps, default=0) + seconds + 1):
            clock.now += 1000
            log({"train/loss": 1.0 / step}, step)
        if end == "fail":
            raise Interruption
        if end == "kill":
            log.end = lambda status: log.flush()  # type: ignore[attr-defined]


def records(root: Path, run: str = "lstm") -> list[dict[str, Any]]:
    path = spools.path_of(root, (run, digest_of(run)))
    return [json.loads(line) for line in path.open()] if path.exists() else []


def the_spool(root: Path) -> spools.SpoolInfo:
    spool = spools.find(root, KEY)
    assert spool is not None
    return spool


def milliseconds(run: Any) -> int:
    return int(run.info.end_time - run.info.start_time)


def test_a_spool_has_the_times_of_its_training(tmp_path: Path, clock: Clock) -> None:
    began = clock.now
    train(tmp_path, clock, 12)
    spool = the_spool(tmp_path)
    assert (spool.start, spool.active, spool.status) == (began, 12_000, "FINISHED")
    assert spool.over


def test_the_time_between_a_kill_and_the_resumption_does_not_count(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = clock.now
    train(tmp_path, clock, 10, end="kill")
    assert the_spool(tmp_path).status == ""
    clock.now += 3_600_000
    train(tmp_path, clock, 5)
    spool = the_spool(tmp_path)
    assert (spool.start, spool.active, spool.status) == (began, 15_000, "FINISHED")
    assert [record["step"] for record in records(tmp_path) if "step" in record] == [*range(1, 16)]


def test_a_training_that_is_repeated_has_times_of_its_own(tmp_path: Path, clock: Clock) -> None:
    train(tmp_path, clock, 10)
    clock.now += 3_600_000
    began = clock.now
    train(tmp_path, clock, 7)
    assert (the_spool(tmp_path).start, the_spool(tmp_path).active) == (began, 7_000)


def test_a_running_training_is_not_pending(tmp_path: Path, clock: Clock) -> None:
    with live_log.live(run="lstm", digest=KEY[1], work=tmp_path, root=tmp_path, params=BLOCK):
        assert spools.pending(tmp_path) == []
    assert [spool.key for spool in spools.pending(tmp_path)] == [KEY]


def test_sync_records_a_training_whose_follower_never_ran_with_its_own_times(
    project: Path, clock: Clock
) -> None:
    began = clock.now
    train(project, clock, 12)
    clock.now += 3_600_000
    for number in range(3):
        message = tracking.sync(project)
        assert ("lstm: curves recorded" in message) == (number == 0)
        clock.now += 3_600_000
    client = mlflow_store.connect(project)
    [run] = all_runs(client)
    assert (run.info.start_time, milliseconds(run)) == (began, 12_000)
    assert run.info.status == "FINISHED"
    assert run.data.tags["device"] == "cpu"
    [parent] = parents(client)
    assert milliseconds(parent) == 12_000
    assert spools.pending(project) == []
    # The times of the points are those of the training.
    points = client.get_metric_history(run.info.run_id, "train/loss")
    assert [(point.step, point.timestamp) for point in points[:12]] == [
        (step, began + 1000 * step) for step in range(1, 13)
    ]


@pytest.mark.long
def test_a_lost_store_is_filled_with_the_same_times(project: Path, clock: Clock) -> None:
    began = clock.now
    train(project, clock, 12)
    tracking.sync(project)
    assert records(project) == [], "its metrics are no longer needed"
    (project / "mlflow.db").unlink()
    clock.now += 3_600_000
    tracking.sync(project)
    [run] = all_runs(mlflow_store.connect(project))
    assert (run.info.start_time, milliseconds(run)) == (began, 12_000)


def test_a_failed_training_is_recorded_as_failed(
    project: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "data/models/lstm/config.json").unlink()
    with pytest.raises(Interruption):
        train(project, clock, 4, end="fail")
    tracking.sync(project)
    [run] = all_runs(mlflow_store.connect(project))
    assert (run.info.status, milliseconds(run)) == ("FAILED", 4_000)


def test_a_repeated_training_keeps_its_outcome_and_has_the_new_duration(
    project: Path, clock: Clock
) -> None:
    train(project, clock, 12)
    tracking.sync(project)
    clock.now += 3_600_000
    train(project, clock, 9)
    tracking.sync(project)
    clock.now += 3_600_000
    with pytest.raises(Interruption):
        train(project, clock, 2, end="fail")
    tracking.sync(project)
    [run] = all_runs(mlflow_store.connect(project))
    assert (run.info.status, milliseconds(run)) == ("FINISHED", 9_000)
    # Also where the run is brought up to date later.
    metrics = {"run": "lstm", "test": {"perplexity": {"score": 3.0, "low": 2.0, "high": 4.0}}}
    (project / "reports/metrics/lstm.json").write_text(json.dumps(metrics))
    assert "lstm: brought up to date" in tracking.sync(project)
    [run] = all_runs(mlflow_store.connect(project))
    assert (run.info.status, milliseconds(run)) == ("FINISHED", 9_000)


def test_a_clock_that_is_set_changes_no_duration(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = clock.now
    jumps = itertools.cycle([3_600_000, -3_600_000])
    with live_log.live(
        run="lstm", digest=KEY[1], work=tmp_path, root=tmp_path, params=BLOCK
    ) as log:
        monkeypatch.setattr(spools, "now", lambda: clock.now + next(jumps))
        for step in range(1, 11):
            clock.now += 1000
            log({"train/loss": 1.0 / step}, step)
    spool = the_spool(tmp_path)
    assert (spool.start, spool.active) == (began, 10_000)


def test_without_a_follower_nothing_of_the_training_is_lost(
    project: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*_: Any) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(live_log, "_start_follower", refused)
    train(project, clock, 12)
    [line] = capsys.readouterr().err.splitlines()
    assert "tracking stopped, training continues: " in line
    tracking.sync(project)
    client = mlflow_store.connect(project)
    [run] = all_runs(client)
    assert (run.info.status, milliseconds(run)) == ("FINISHED", 12_000)
    assert curve(client, project)[:12] == list(range(1, 13))


def test_a_write_that_fails_once_does_not_shorten_the_training(
    project: Path, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with live_log.live(run="lstm", digest=KEY[1], work=project, root=project, params=BLOCK) as log:
        file = log._file  # type: ignore[attr-defined]
        for step in range(1, 11):
            clock.now += 1000
            log._file = _Full() if step == 5 else file  # type: ignore[attr-defined]
            log({"train/loss": 1.0 / step}, step)
    assert len(capsys.readouterr().err.splitlines()) == 1
    spool = the_spool(project)
    assert (spool.active, spool.status) == (10_000, "FINISHED")


class _Full:
    """A file on a full disk."""

    def write(self, _: bytes) -> int:
        raise OSError(28, "No space left on device")


def test_a_training_that_is_resumed_while_its_spool_is_removed_keeps_all(
    project: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The follower gets no processor between its look at the spool and its removal."""
    train(project, clock, 5, end="kill")
    path = path_after_a_kill(project)
    write = spools.write_file
    resumed: list[threading.Thread] = []

    def slow(place: Path, content: bytes, **options: Any) -> None:
        write(place, content, **options)
        if place.parent.name == "recorded" and not resumed:
            resumed.append(threading.Thread(target=train, args=(project, clock, 3)))
            resumed[0].start()
            resumed[0].join(1)  # it waits for the lock

    monkeypatch.setattr(spools, "write_file", slow)
    sender.send_pending(project, path, sender.call_once)
    resumed[0].join()
    [spool] = spools.pending(project)
    assert (spool.status, spool.active) == ("FINISHED", 8_000)


def test_a_training_starts_while_a_stopped_process_holds_the_spools_lock(
    project: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spools, "_LOCK_SECONDS", 0.1)
    train(project, clock, 2, run="gru")
    path = spools.path_of(project, ("gru", digest_of("gru")))
    with path.parent.with_name("spools.lock").open("a") as lock:
        assert try_lock(lock)
        train(project, clock, 3)
        assert (the_spool(project).active, the_spool(project).status) == (3_000, "FINISHED")
        sender.send_pending(project, path, sender.call_once)
        assert path.exists(), "nothing is removed without the lock"
    sender.send_pending(project, path, sender.call_once)
    assert not path.exists()


def test_a_password_does_not_make_another_store(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = set()
    for address in ("http://u:one@host:5000", "http://u:two@host:5000/", "http://host:6000"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        ids.add(spools.store_id())
    assert len(ids) == 2
    assert "" not in ids


def test_sync_leaves_trainings_of_another_store_and_says_so(
    project: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as other:
        other.setenv("MLFLOW_EXPERIMENT_NAME", "paper")
        train(project, clock, 3, run="gru")
    message = tracking.sync(project)
    assert "1 training was logged for another store: set or unset MLFLOW_TRACKING_URI" in message
    assert [spool.key[0] for spool in spools.pending(project)] == ["gru"]
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "paper")
    assert "another store" not in tracking.sync(project)
    assert spools.pending(project) == []


@pytest.mark.parametrize("at_work", [True, False])
def test_sync_leaves_a_training_of_another_container_to_its_follower(
    at_work: bool, project: Path, clock: Clock
) -> None:
    train(project, clock, 3, end="kill")
    path = spools.path_of(project, KEY)
    here = str(spools.process_identity.current_process())
    process = the_spool(project).process
    namespace = process.rsplit(" ", 1)[1]
    assert namespace == here.rsplit(" ", 1)[1]
    other = process.replace(namespace, "pid:[1]")
    path.write_text(path.read_text().replace(process, other))
    clock.now += 3_600_000
    with ExitStack() as stack:
        if at_work:
            stack.enter_context(run_lock.sole(project, KEY, lambda: False, "follower"))
            for name in ("data/models/lstm", "data/predictions/lstm"):
                shutil.rmtree(project / name)
        message = tracking.sync(project)
    if at_work:
        assert "lstm: process " in message
        assert "of another container or machine trains it" in message
        assert all_runs(mlflow_store.connect(project)) == []
    else:
        assert "lstm: curves recorded" in message
    assert bool(spools.pending(project)) == at_work


def test_sync_says_nothing_of_a_training_that_ended_just_now(project: Path, clock: Clock) -> None:
    """Its follower may only not have had the time. What counts is the end of the last process."""
    train(project, clock, 10, end="kill")
    clock.now += 3_600_000
    train(project, clock, 5)
    clock.now += 59_000
    assert "curves recorded" not in tracking.sync(project)
    assert spools.pending(project) == []


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]\n", b'{"run": 1, "digest": "d"}\n', b"\xff\n", b"[" * 100_000]
)
def test_a_damaged_spool_is_passed_over_by_sync(content: bytes, project: Path) -> None:
    path = spools.path_of(project, KEY)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    assert "lstm: recorded" in tracking.sync(project)
    assert path.read_bytes() == content


def test_doctor_names_the_trainings_that_mlflow_lacks(project: Path, clock: Clock) -> None:
    assert health_checks.trainings(project).state == "ok"
    train(project, clock, 3)
    finding = health_checks.trainings(project)
    assert finding.state == "warn"
    assert finding.detail == "1 not all in MLflow (lstm)"
    tracking.sync(project)
    assert health_checks.trainings(project).state == "ok"


def watch_of(root: Path, lines: Any) -> follower.Watch:
    """A watch on a training that is over, which does not end this process."""
    return follower.Watch(lines, -1, root)


def test_a_follower_sends_what_others_left(project: Path, clock: Clock) -> None:
    for run in ("a-1", "a-2", "a-3"):
        train(project, clock, 3, run=run)
    with spools.path_of(project, ("a-1", digest_of("a-1"))).open("rb") as lines:
        watch = watch_of(project, lines)
        assert follower.follow(lines, project, Path(lines.name), watch)
        follower.send_all_pending(project, watch)
    assert spools.pending(project) == []
    client = mlflow_store.connect(project)
    assert sorted(run.info.run_name for run in all_runs(client)) == ["a-1", "a-2", "a-3"]
    assert {milliseconds(run) for run in all_runs(client)} == {3_000}


def test_one_follower_stays_and_the_others_do_not_wait(project: Path, clock: Clock) -> None:
    train(project, clock, 3)
    with spools.path_of(project, KEY).open("rb") as lines:
        first, second = (watch_of(project, lines) for _ in range(2))
        first._grace = second._grace = -1.0  # the grace period is over
        assert not first.late()
        assert second.late()
        follower.send_all_pending(project, second)
        assert len(spools.pending(project)) == 1
        follower.send_all_pending(project, first)
        assert spools.pending(project) == []


def test_a_follower_that_stays_ends_where_the_store_fails(
    project: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    train(project, clock, 3)
    with spools.path_of(project, KEY).open("rb") as lines:
        watch = watch_of(project, lines)
        watch._grace = -1.0
        assert follower.follow(lines, project, Path(lines.name), watch)
        assert watch.stays()
        follower.send_all_pending(project, watch)
    assert len(spools.pending(project)) == 1


@pytest.mark.long
def test_trainings_whose_followers_are_killed_are_recorded_by_a_later_one(project: Path) -> None:
    write_project(project, ("a", "b", "c"))
    client = mlflow_store.connect(project)
    for run in ("a", "b"):
        training = start_training(project, 40, 0.05, run=run)
        for process in wait_for(lambda: followers(project)):
            os.kill(process, signal.SIGKILL)
        finish(training)
    assert len(spools.pending(project)) == 2
    finish(start_training(project, 20, 0.0, run="c"))
    wait_for(lambda: not followers(project))
    assert sorted(run.info.run_name for run in all_runs(client)) == ["a", "b", "c"]
    assert curve(client, project, "a") == curve(client, project, "b") == [*range(1, 41)]
    assert {run.info.status for run in all_runs(client)} == {"FINISHED"}


@pytest.mark.long
def test_followers_that_are_late_leave_their_spools_to_one_that_stays(project: Path) -> None:
    """Without a grace period each follower gives up as its training ends; here another process
    holds their runs until then, and the place of the one that stays."""
    names = ("a", "b", "c")
    write_project(project, (*names, "d"))
    (project / ".seqline/tracking").mkdir(parents=True)
    with ExitStack() as held:
        place = held.enter_context((run_lock.locks(project) / "followers.lock").open("a+"))
        assert try_lock(place)
        for run in names:
            key = (run, digest_of(run))
            held.enter_context(run_lock.sole(project, key, lambda: False, "follower"))
            finish(start_training(project, 20, 0.0, run=run, SEQLINE_FOLLOWER_SECONDS="-1"))
        wait_for(lambda: not followers(project))
        assert len(spools.pending(project)) == len(names)
    finish(start_training(project, 20, 0.0, run="d", SEQLINE_FOLLOWER_SECONDS="-1"))
    wait_for(lambda: not followers(project))
    assert spools.pending(project) == []
    client = mlflow_store.connect(project)
    assert sorted(run.info.run_name for run in all_runs(client)) == [*names, "d"]


@pytest.mark.long
def test_short_trainings_are_sent_by_one_follower_alone(project: Path) -> None:
    """MLflow costs each process that imports it seconds."""
    names = ("a", "b", "c", "d")
    write_project(project, names)
    (project / ".seqline/tracking").mkdir(parents=True)
    settings = {"SEQLINE_FOLLOWER_DELAY": "3", "PYTHONPROFILEIMPORTTIME": "1"}
    with (run_lock.locks(project) / "followers.lock").open("a+") as place:
        assert try_lock(place)
        for run in names:
            finish(start_training(project, 20, 0.0, run=run, **settings))
        assert len(spools.pending(project)) == len(names)
    wait_for(lambda: not followers(project))
    assert spools.pending(project) == []
    client = mlflow_store.connect(project)
    assert all(curve(client, project, run) == [*range(1, 21)] for run in names)
    logs = [project / ".seqline/training" / run / live_log.LOG for run in names]
    assert len([log for log in logs if "mlflow.entities" in log.read_text()]) == 1


@pytest.mark.long
def test_a_training_that_outlasts_the_delay_is_sent_while_it_runs(project: Path) -> None:
    client = mlflow_store.connect(project)
    with start_training(project, 10_000, 0.05, SEQLINE_FOLLOWER_DELAY="0.5") as training:
        wait_for(lambda: curve(client, project))
        assert training.poll() is None
        training.kill()
    wait_for(lambda: not followers(project))


def test_a_follower_ends_once_another_has_sent_its_training(
    project: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(project, clock, 3)
    path = spools.path_of(project, KEY)
    with path.open("rb") as lines:
        first, second = (watch_of(project, lines) for _ in range(2))
        assert follower.wait_to_send(lines, path, first)
        monkeypatch.setattr(time, "sleep", lambda seconds: tracking.sync(project))
        assert not follower.wait_to_send(lines, path, second)
        assert not second.stays()
        assert not follower.wait_to_send(lines, path, first), "nothing is left to send"


def path_after_a_kill(root: Path) -> Path:
    """The spool's path; its header now names a process that does not exist."""
    path = spools.path_of(root, KEY)
    path.write_text(path.read_text().replace('"process": "', '"process": "1'))
    return path


@pytest.mark.parametrize("resumed", [False, True])
def test_a_training_that_is_resumed_meanwhile_keeps_its_spool(
    resumed: bool, project: Path, clock: Clock
) -> None:
    """A spool is listed as one of an ended training, and sent seconds later."""
    train(project, clock, 3, end="kill")
    path = path_after_a_kill(project)
    [listed] = spools.pending(project)
    if resumed:
        with live_log.live(run="lstm", digest=KEY[1], work=project, root=project, params=BLOCK):
            sender.send_pending(project, listed.path, sender.call_once)
            assert path.exists()
            assert all_runs(mlflow_store.connect(project)) == []
        assert [spool.status for spool in spools.pending(project)] == ["FINISHED"]
    sender.send_pending(project, path, sender.call_once)
    [run] = all_runs(mlflow_store.connect(project))
    assert run.info.status == ("FINISHED" if resumed else "KILLED")
    assert spools.pending(project) == []


def test_a_follower_leaves_trainings_of_another_store(
    project: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(project, clock, 3)
    path = spools.path_of(project, KEY)
    with monkeypatch.context() as other, path.open("rb") as lines:
        other.setenv("MLFLOW_EXPERIMENT_NAME", "other")
        watch = watch_of(project, lines)
        assert watch.claim()
        follower.send_all_pending(project, watch)
        assert len(spools.pending(project)) == 1
    with path.open("rb") as lines:
        watch = watch_of(project, lines)
        assert watch.claim(), "each store has a follower that stays"
        follower.send_all_pending(project, watch)
    assert spools.pending(project) == []


def test_a_resumed_training_is_sent_again_by_the_same_follower(
    project: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(project, clock, 3, end="kill")
    path = path_after_a_kill(project)
    monkeypatch.setenv("SEQLINE_FOLLOWER_DELAY", "15")

    def pause(self: follower.Watch, seconds: float) -> None:
        if the_spool(project).status != "KILLED":
            raise Waiting
        train(project, clock, 2)

    monkeypatch.setattr(follower.Watch, "pause", pause)
    with path.open("rb") as lines, pytest.raises(Waiting):
        follower.send_all_pending(project, watch_of(project, lines))
    assert spools.pending(project) == []
    [run] = all_runs(mlflow_store.connect(project))
    assert run.info.status == "FINISHED"


def test_a_follower_that_stays_waits_for_trainings_that_may_be_short(
    project: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pause(self: follower.Watch, seconds: float) -> None:
        raise Waiting

    monkeypatch.setattr(follower.Watch, "pause", pause)
    monkeypatch.setenv("SEQLINE_FOLLOWER_DELAY", "15")
    soon, late = itertools.count(step=2).__next__, itertools.count(step=20).__next__
    with (
        live_log.live(run="lstm", digest=KEY[1], work=project, root=project, params=BLOCK),
        spools.path_of(project, KEY).open("rb") as lines,
    ):
        watch = watch_of(project, lines)
        follower.send_all_pending(project, watch)  # it does not stay: it does not wait
        assert watch.claim()
        monkeypatch.setattr(time, "monotonic", late)
        with pytest.raises(Waiting):
            follower.send_all_pending(project, watch)
        clock.now += 15_001  # that training has a follower of its own
        follower.send_all_pending(project, watch)
        monkeypatch.setattr(time, "monotonic", soon)
        with pytest.raises(Waiting):
            follower.send_all_pending(project, watch)  # for the next one


class Waiting(Exception):
    """Raised instead of a pause."""


def test_a_follower_that_stays_waits_for_those_that_are_at_work(
    project: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would end before one that then gives up."""

    def pause(self: follower.Watch, seconds: float) -> None:
        raise Waiting

    train(project, clock, 3)
    monkeypatch.setattr(follower.Watch, "pause", pause)
    with (
        run_lock.sole(project, KEY, lambda: False, "follower"),
        spools.path_of(project, KEY).open("rb") as lines,
        pytest.raises(Waiting),
    ):
        follower.send_all_pending(project, watch_of(project, lines))
