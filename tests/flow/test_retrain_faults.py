"""What a retraining by itself must survive: a server that takes no events, a reader that left, a
night without MLflow."""

import asyncio
import os
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar
from uuid import UUID, uuid4

import flows
import psutil
import pytest
import retrain_project as small
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.responses import DeploymentResponse
from waiting import HANG_SECONDS

from pipeline.core.errors import UserError
from pipeline.dag import refresh
from pipeline.dag.run_stage import Result
from pipeline.dag.run_stage import State as Ended
from pipeline.flow import (
    challenge,
    deployments,
    events,
    pending_publish,
    prefect_server,
    publish,
    retrain,
    schedule,
    served_schedule,
    status,
)
from pipeline.flow.challenge import Verdict
from pipeline.flow.display import Outcome

PAUSE = 0.01


# --- a server that answers, and takes no events


class Deaf(BaseHTTPRequestHandler):
    """Answers what is asked of it, and refuses every websocket, as a proxy does that knows none."""

    protocol_version = "HTTP/1.1"
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        deaf = "Upgrade" in self.headers
        self.asked.append("upgrade" if deaf else self.path)
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = {"version": b'"3.8.8"', "filter": b"[]"}.get(self.path.rpartition("/")[2], b"true")
        self.send_response(503 if deaf else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *said: object) -> None:
        pass


@pytest.fixture
def deaf() -> Iterator[str]:
    """Its API's address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Deaf) as server:
        Deaf.asked.clear()
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/api"
        server.shutdown()
        thread.join()


def test_watch_continues_when_server_rejects_events(
    deaf: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And says why, once, however often it looks."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    looks: list[int] = []

    def look(root: Path) -> refresh.SourceChanges:
        looks.append(1)
        return refresh.SourceChanges({"reviews": "1"}, ())

    async def watched() -> None:
        serving = schedule._Serving(tmp_path, schedule.terms(None, None, True, "1", None))
        task = asyncio.create_task(serving._repeat(events.SourceWatcher(tmp_path).check, PAUSE))
        while len(looks) < 5 and not task.done():
            await asyncio.sleep(PAUSE)
        assert not task.done()
        task.cancel()

    monkeypatch.setattr(refresh, "compare_sources", look)
    with temporary_settings({PREFECT_API_URL: deaf}):
        asyncio.run(watched())
    assert Deaf.asked.count("upgrade") > 2
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith(f"seqline: PREFECT_API_URL: got {deaf}, which takes no events (")
    assert "503" in line


def test_command_reports_rejected_event_in_one_line(deaf: str, project: Path) -> None:
    program = """
import sys
from pipeline.dag import refresh
from pipeline.cli import main
refresh.compare_sources = lambda root: refresh.SourceChanges({"reviews": "1"}, ())
sys.argv = ["seqline", "refresh", "--emit"]
main()
"""
    env = flows.surroundings(project / "prefect", deaf)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=project, env=env, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert line.startswith(f"seqline: PREFECT_API_URL: got {deaf}, which takes no events (")
    assert "503" in line


@pytest.mark.long
def test_schedule_survives_closed_output_pipe(tmp_path: Path) -> None:
    """As `seqline schedule | tee log` whose tee dies: it goes on, and all that is printed later
    goes nowhere."""
    program = """
import asyncio, sys
from pathlib import Path
from pipeline.core.errors import UserError
from pipeline.flow import schedule
rounds = 0

async def do():
    global rounds
    rounds += 1
    if rounds == 1:
        sys.stdin.read()  # until nobody reads what is printed
        raise UserError("of the first round")
    if rounds == 4:
        Path("rounds").touch()
        asyncio.current_task().cancel()
    print("said", flush=True)

serving = schedule._Serving(Path.cwd(), schedule.terms(None, "1h", False, "1", None))
try:
    asyncio.run(serving._repeat(do, 0.01))
except asyncio.CancelledError:
    print("the end", flush=True)
"""
    ours, theirs = os.pipe()
    env = flows.surroundings(tmp_path / "prefect", None)
    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=env,
        stdin=subprocess.PIPE,
        stdout=theirs,
        stderr=subprocess.PIPE,
    ) as process:
        os.close(theirs)
        os.close(ours)
        _, said = process.communicate(timeout=HANG_SECONDS)
    assert (process.returncode, said) == (0, b"")
    assert (tmp_path / "rounds").exists()


class Idle:
    """Prefect's runner, which has nothing to do."""

    started = True

    def __init__(self, **settings: object) -> None:
        self._over = asyncio.Event()

    async def aadd_flow(self, *flow: object, **settings: object) -> UUID:
        return uuid4()

    async def start(self) -> None:
        await self._over.wait()

    async def astop(self) -> None:
        self._over.set()


def test_a_fault_of_ours_ends_the_schedule_for_all_to_see(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def next_starts(deployment: UUID) -> list[str]:
        raise KeyError("a fault")

    monkeypatch.setattr(schedule, "Runner", Idle)
    monkeypatch.setattr(schedule, "_next_starts", next_starts)
    with pytest.raises(KeyError, match="a fault"):
        asyncio.run(schedule._Serving(project, schedule.terms(None, "1h", False, "1", None)).run())
    left = served_schedule.read(project)
    assert left
    assert not left.ended, "which is for one that was ended on purpose"


# --- what was made and not published


class Night:
    """A retraining's surroundings: what the DAG came to, and whether MLflow is there."""

    def __init__(self) -> None:
        self.ended: Ended = "ran"
        self.tracked = True
        self.published = 0

    def outcome(self, root: Path) -> Outcome:
        stages = {"download@x": Result(state="ran" if self.ended == "failed" else self.ended)}
        return Outcome(stages | {"train@x": Result(state=self.ended)}, 1.0, root)

    def sync(self, root: Path) -> str:
        if not self.tracked:
            raise UserError("MLFLOW_TRACKING_URI: got no answer; expected one.")
        return "level"

    def publish(self, *given: object) -> publish.PublishResult:
        self.published += 1
        return publish.PublishResult(["pushed"], True)


@pytest.fixture
def night(monkeypatch: pytest.MonkeyPatch) -> Night:
    """The steps of a retraining, their outermost edges replaced: no server, no DAG, no registry, no
    remote."""
    night = Night()
    same = Verdict(
        name="a", event="same", line="a: x is still the champion", version=SimpleNamespace()
    )  # type: ignore[arg-type]
    for name in ("pull_new_data", "sync_mlflow", "publish_results"):
        monkeypatch.setattr(retrain, name, getattr(retrain, name).fn)
    monkeypatch.setattr(retrain.refresh, "refresh", lambda root: refresh.SourceChanges({}, ()))
    monkeypatch.setattr(retrain, "reproduce", lambda root, targets, jobs: night.outcome(root))
    monkeypatch.setattr(retrain.tracking, "sync", night.sync)
    monkeypatch.setattr(challenge, "runs_by_model", lambda root: {"a": ["x"]})
    monkeypatch.setattr(
        retrain,
        "evaluate_challenger",
        SimpleNamespace(with_options=lambda **_: lambda *given: same),
    )
    monkeypatch.setattr(publish, "publish", night.publish)
    monkeypatch.delenv("SEQLINE_TRACKING", raising=False)
    return night


def steps(root: Path) -> retrain.Progress:
    done = retrain.Progress()
    retrain.run_steps(root, SimpleNamespace(publish=None), 1, done)  # type: ignore[arg-type]
    return done


def test_next_run_publishes_work_done_during_mlflow_outage(night: Night, tmp_path: Path) -> None:
    night.tracked = False
    with pytest.raises(UserError):
        steps(tmp_path)
    assert (night.published, pending_publish.read(tmp_path)) == (0, [])
    night.ended, night.tracked = "cached", True
    assert not steps(tmp_path).changed
    assert (night.published, pending_publish.read(tmp_path)) == (1, None)
    steps(tmp_path)
    assert night.published == 1, "once is enough"


def test_outputs_before_a_failed_stage_are_published_after_recovery(
    night: Night, tmp_path: Path
) -> None:
    """Though somebody fixed it with a `dvc repro`, so that the next retraining finds nothing to
    do."""
    night.ended = "failed"
    for _ in range(2):
        with pytest.raises(retrain.RetrainingFailed):
            steps(tmp_path)
    assert night.published == 0, "half of it"
    night.ended = "cached"
    steps(tmp_path)
    assert (night.published, pending_publish.read(tmp_path)) == (1, None)
    steps(tmp_path)
    assert night.published == 1


def test_retraining_without_changes_publishes_nothing(night: Night, tmp_path: Path) -> None:
    night.ended = "cached"
    assert steps(tmp_path).event == "nothing"
    assert (night.published, pending_publish.read(tmp_path)) == (0, None)


# --- the stages of a contest


def recorded(root: Path, **limits: int) -> challenge.RecordedCommands:
    """The commands of a contest in the folder `root`, under these limits."""
    for name in ("flow.yaml", "params.yaml"):
        shutil.copy(small.ROOT / name, root)
    small.settings(root, run={"time_limits": limits})
    return challenge.RecordedCommands(root)


def as_stage(name: str, program: str) -> list[str]:
    """A command that says it is a stage of this name."""
    return [sys.executable, "-c", program, f"stages.{name}"]


def test_a_stage_that_hangs_in_a_contest_is_ended_with_all_it_started(tmp_path: Path) -> None:
    launch, log = recorded(tmp_path, predict=2), tmp_path / "log"
    with pytest.raises(
        UserError, match=r"^stages\.predict timed out after 2 s \(run\.time_limits\.predict\)\. "
    ) as caught:
        launch(["sh", "-c", "sleep 600 & echo $$ $!; wait", "stages.predict"], log)
    assert str(log) in str(caught.value)
    pids = [int(word) for word in log.read_text().split()]
    assert len(pids) == 2
    assert all(
        not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        for pid in pids
    )
    assert list((tmp_path / ".seqline/flow/groups").iterdir()) == []
    assert launch(as_stage("encode", "print(1)"), log) == 0, (
        "another stage has no limit, and the next one may run"
    )


@pytest.mark.parametrize("gpus", ["4", "4,7"])
def test_contenders_share_no_gpu(
    gpus: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one they predict by turns, with two at once, each on its own; what predicts nothing
    waits for none."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)
    monkeypatch.setattr("pipeline.flow.devices._is_for_cpu", lambda: False)
    launch = recorded(tmp_path)
    say = (
        "import os, time, pathlib; me = pathlib.Path('on' + "
        "os.environ['CUDA_VISIBLE_DEVICES']); me.touch(exist_ok=False)"
    )
    say += "; time.sleep(0.3); me.unlink(); print(me, flush=True)"
    with ThreadPoolExecutor(4) as pool:
        words = [
            pool.submit(launch, as_stage("predict", say), tmp_path / f"log{n}") for n in range(4)
        ]
        free = launch(
            as_stage("encode", "import os; print(os.environ['CUDA_VISIBLE_DEVICES'])"),
            tmp_path / "free",
        )
    assert ([word.result() for word in words], free) == ([0] * 4, 0), "no two met on one device"
    assert {(tmp_path / f"log{n}").read_text().strip() for n in range(4)} <= {
        f"on{name}" for name in gpus.split(",")
    }
    assert (tmp_path / "free").read_text().strip() == gpus


# --- the stages of the DAG


def test_a_stage_whose_log_has_no_place_says_so(tmp_path: Path) -> None:
    """It fails before it is started, so that its summary is all that there is to read."""
    from pipeline.dag import run_settings
    from pipeline.flow import devices, prefect_flow

    (tmp_path / "logs").write_text("in the way")
    session = SimpleNamespace(
        started=[],
        threads={},
        places={"train@x": devices.Slots(frozenset(), []).acquire("train")},
        logs=tmp_path / "logs" / "now",
        workers=SimpleNamespace(root=tmp_path),
        settings=run_settings.load(small.ROOT),
        stop=threading.Event(),
        results={},
        ended=queue.Queue(),
    )
    prefect_flow._run(session, "train@x", lambda line: None)  # type: ignore[arg-type]
    assert session.ended.get_nowait() == "train@x"
    summary = Outcome(session.results, 1.0, tmp_path).summary()
    assert "FAILED train@x: " in summary
    assert f"Not a directory: '{tmp_path / 'logs' / 'now'}" in summary


# --- runs in clones, seen from the project


def at(minutes: float) -> datetime:
    """So many minutes from now."""
    return datetime.now(UTC) + timedelta(minutes=minutes)


def ran(kind: StateType, minutes: float, name: str | None = None) -> FlowRun:
    """A run of the deployment that began, or is due, so many minutes from now."""
    state = State(type=kind, name=name)
    return FlowRun(
        flow_id=uuid4(), state=state, state_name=state.name, next_scheduled_start_time=at(minutes)
    )


class Client:
    """Prefect's client of a server that knows one deployment, whose workers clone `repository`, and
    these runs."""

    def __init__(self, repository: str, runs: list[FlowRun]) -> None:
        pull = [{"prefect.deployments.steps.git_clone": {"id": "clone", "repository": repository}}]
        known = {
            "name": "nightly",
            "flow_id": uuid4(),
            "pull_steps": pull,
            "parameters": {"root": "."},
        }
        self._deployment, self._runs = DeploymentResponse(**known), runs

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *raised: object) -> None:
        pass

    def read_deployments(self, **wanted: object) -> list[DeploymentResponse]:
        return [self._deployment]

    def read_flow_runs(self, flow_run_filter: FlowRunFilter, **how: object) -> list[FlowRun]:
        assert flow_run_filter.state
        assert flow_run_filter.state.type
        due = flow_run_filter.state.type.any_ == [StateType.SCHEDULED]
        return [
            run
            for run in self._runs
            if run.state and due == (run.state.type == StateType.SCHEDULED)
        ]


@pytest.fixture
def seen(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., deployments.DeploymentStatus]:
    """What the server says of the project, a clone of example.org/me/seqline, whose deployment
    clones `repository`."""
    small.git(project, "remote", "add", "origin", "git@example.org:me/seqline.git")

    def told(
        *runs: FlowRun, repository: str = "https://example.org/me/seqline.git"
    ) -> deployments.DeploymentStatus:
        monkeypatch.setattr(
            deployments, "get_client", lambda sync_client: Client(repository, list(runs))
        )
        return deployments.status(project)

    return told


DUE = (StateType.SCHEDULED, 60)


@pytest.mark.parametrize(
    ("runs", "well", "words"),
    [
        ([], True, "no run yet"),
        ([(StateType.COMPLETED, -9), DUE], True, "last 1 runs: 1 completed; next at "),
        (
            [(StateType.FAILED, -9), (StateType.COMPLETED, -99), DUE],
            False,
            "1 failed, 1 completed; next at ",
        ),
        ([(StateType.CRASHED, -9), DUE], False, "1 crashed"),
        # others stood in
        ([(StateType.CANCELLED, -9, "Skipped"), (StateType.COMPLETED, -9)], True, "1 skipped"),
        ([(StateType.COMPLETED, -9), (StateType.SCHEDULED, -5), DUE], False, "1 late"),
        # it may be on its way
        ([(StateType.COMPLETED, -9), (StateType.SCHEDULED, -0.5), DUE], True, "1 late"),
        (
            [(StateType.RUNNING, -9), (StateType.FAILED, -99), (StateType.SCHEDULED, -5)],
            True,
            "1 running",
        ),
    ],
)
def test_status_shows_results_of_runs_in_clones(
    seen, runs: list[tuple], well: bool, words: str
) -> None:
    told = seen(*(ran(*one) for one in runs))
    assert words in told.summary
    assert told.healthy == well


@pytest.mark.parametrize(
    ("repository", "ours"),
    [
        ("https://example.org/me/seqline", True),
        ("https://me:secret@example.org/me/seqline.git/", True),
        ("ssh://git@example.org:22/me/seqline.git", True),
        ("https://example.org/me/seqline-2.git", False),
        ("https://example.com/me/seqline.git", False),
    ],
)
def test_deployment_is_identified_by_its_repository(seen, repository: str, ours: bool) -> None:
    told = seen(ran(StateType.FAILED, -9), repository=repository)
    assert ("1 failed" in told.summary, told.healthy) == (ours, not ours)
    assert "secret" not in told.summary


def test_a_failed_run_in_a_clone_is_a_bad_status(
    seen, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(prefect_server, "configured_url", lambda: "http://prefect.example.org/api")
    monkeypatch.setattr(prefect_server, "is_reachable", lambda: True)
    seen(ran(StateType.COMPLETED, -9))
    assert status.report(project).healthy
    seen(ran(StateType.FAILED, -9))
    report = status.report(project)
    assert not report.healthy
    assert dict(report.lines)["server"].endswith("/api: last 1 runs: 1 failed")
