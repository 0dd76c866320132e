"""`reproduce`: DVC's stages as a Prefect flow with one task per stage; independent stages run in
parallel.

The flow's thread starts stages, the critical path first (`dag/expected_time.py`). Prefect's tasks
show their states and logs. Prefect never repeats, times out or caches a stage. DVC knows what is up
to date, and `dag/run_stage.py` ends processes, which a task's time limit does not.
"""

import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas import State
from prefect.exceptions import TerminationSignal
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner

from pipeline.core import state_dir
from pipeline.core.errors import describe_error
from pipeline.dag import expected_time, graph, lockfile, run_settings, run_stage
from pipeline.dag.dvc_runner import DvcRunner, open_runner
from pipeline.dag.run_stage import Result
from pipeline.flow import devices, display, prefect_server
from pipeline.flow.display import Outcome
from pipeline.flow.progress import RecordedDisplay
from pipeline.flow.server_errors import SERVER_ERRORS
from pipeline.flow.time_left import TimeLeft

_WAIT_SECONDS = 0.25  # for a stage to end, before lost tasks are looked for
_POLL_SECONDS = 3.0  # between two requests for the flow run's state
_FAILURES = 3  # failed requests in a row that mean a lost server, not a busy one


class FlowState:
    """State of one run. Tasks read it from a context variable, since Prefect inspects arguments."""

    def __init__(self, root: Path, jobs: int, workers: DvcRunner, plan: graph.Plan) -> None:
        self.root = root
        self.jobs = jobs
        self.workers = workers
        self.plan = plan
        self.settings = run_settings.load(root)
        self.slots = devices.project_slots(root)
        self.threads = devices.threads(jobs)
        self.logs = root / state_dir.new_log_folder()
        self.parent: str | None = flow_run.get_id()  # the flow run that this one is a part of
        self.start_time = time.monotonic()

        self.stop = threading.Event()  # end what runs, and start nothing more
        self.server_lost = threading.Event()
        self.started: list[str] = []
        self.ended: queue.Queue[str] = queue.Queue()
        self.results: dict[str, Result] = {}
        self.places: dict[str, devices.Place] = {}
        self.interrupt: BaseException | None = None

    def outcome(self, note: str = "") -> Outcome:
        """Collect the results, in the plan's order."""
        results = {
            address: self.results.get(address, Result(state="cancelled"))
            for address in self.plan.needs
        }
        return Outcome(results, time.monotonic() - self.start_time, self.root, note)


_SESSION: ContextVar[FlowState] = ContextVar("session")


def reproduce(
    root: Path, targets: Sequence[str], jobs: int, workers: DvcRunner | None = None
) -> Outcome:
    """Bring the targets (all stages, if there are none) up to date, `jobs` stages at a time; as a
    flow, or as a subflow within one.

    `workers` may have been started for the same targets before. The caller holds the project's lock
    and has called `prefect_server.prepare`.

    UserError if nothing can be run at all; a failed stage is in the outcome. Ctrl-C, SIGTERM and
    Prefect's cancel end all stages. The interrupt is then raised, with the attribute `outcome`.
    """
    root = root.resolve()
    with ExitStack() as stack:
        if workers is None:
            workers = open_runner(root, targets, devices.threads(jobs))
            stack.enter_context(workers)
        plan, locked = workers.plan()
        session = FlowState(root, jobs, workers, plan)
        memory = lockfile.LockOrder(root, locked)
        if plan.stale():
            memory.keep()
        note = _run_flow(session, targets)

        # Parallel stages enter dvc.lock in the order in which they end: restore `dvc repro`'s.
        # A run that was killed after its last stage leaves this to the next, which runs no stage.
        ordered = True
        if plan.stale() or memory.kept:
            ordered = workers.order_lock(memory.before, list(plan.needs))
        seconds = {
            address: result.seconds
            for address, result in session.results.items()
            if result.state == "ran"
        }
        expected_time.record(root, seconds)
        outcome = session.outcome(note)
        if outcome.ok and ordered:
            memory.drop()

    if session.interrupt is not None:
        session.interrupt.outcome = outcome  # type: ignore[attr-defined]
        raise session.interrupt
    return outcome


def _run_flow(session: FlowState, targets: Sequence[str]) -> str:
    """Run the flow; return a note for the summary if the server was lost on the way, else ""."""
    token = _SESSION.set(session)
    try:
        stages(list(targets), session.jobs, return_state=True)
    except SERVER_ERRORS as error:
        if not session.results:
            raise
        return (
            f"Prefect's server was lost during the run ({type(error).__name__}): its pages lack "
            "the end of this run."
        )
    finally:
        session.stop.set()
        _SESSION.reset(token)
    return ""


@flow(
    name="reproduce",
    flow_run_name=lambda: ", ".join(flow_run.get_parameters().get("targets", [])) or "all stages",
    task_runner=ThreadPoolTaskRunner(),  # type: ignore[arg-type] # unlimited: `Scheduler` keeps to `jobs`
    retries=0,
    persist_result=False,
    validate_parameters=False,
)
def stages(targets: list[str], jobs: int) -> State[Any]:
    """Prefect's flow of `reproduce`, which is its only caller."""
    session = _SESSION.get()
    durations = expected_time.seconds(session.root)
    left = TimeLeft(session.plan, durations, session.jobs, session.slots)
    total = len(session.plan.stale())
    progress = RecordedDisplay(session.root, display.display(total, left), total)
    try:
        with _watch_for_cancel(session):
            Scheduler(session, progress).work()
    except (KeyboardInterrupt, TerminationSignal) as error:
        session.interrupt = error
    finally:
        progress.close()

    if session.server_lost.is_set():
        prefect_server.stop_retrying()
    outcome = session.outcome()
    summary = outcome.summary()
    get_run_logger().info(summary)
    if session.interrupt is not None:
        return Cancelled(message="interrupted; all running stages were ended")
    return Completed(message=summary) if outcome.ok else Failed(message=summary)


class Scheduler:
    """Starts ready stages in the flow's thread, the critical path first, until none is left."""

    def __init__(self, session: FlowState, progress: RecordedDisplay) -> None:
        plan = session.plan
        self._session = session
        self._progress = progress
        self._priority = expected_time.priorities(plan, expected_time.seconds(session.root))
        self._waiting = plan.stale()  # stages that have not started, in the plan's order
        self._up_to_date: set[str] = set()
        self._running: set[str] = set()
        self._futures: dict[str, Any] = {}

    def work(self) -> None:
        """Run all stages. An interrupt propagates once all running stages have been ended."""
        try:
            for address in self._session.plan.needs:
                if address in self._session.plan.fresh:
                    self._add_fresh(address)
            self._start_ready()
            while self._running:
                self._collect()
                self._start_ready()
        finally:
            self._session.stop.set()
            while self._running:
                try:
                    self._collect()
                except (KeyboardInterrupt, TerminationSignal):
                    continue  # a second Ctrl-C must not leave orphans either

    def _add_fresh(self, address: str) -> None:
        """Show a stage that is up to date as a cached task."""
        upstream = [self._futures[need] for need in self._session.plan.needs[address]]
        named_task = show_cached.with_options(task_run_name=address)
        self._futures[address] = named_task.submit(wait_for=upstream)  # type: ignore[call-overload]
        self._session.results[address] = Result(state="cached")
        self._up_to_date.add(address)

    def _start_ready(self) -> None:
        session = self._session
        needs = session.plan.needs
        ready = [each for each in self._waiting if self._up_to_date.issuperset(needs[each])]
        for address in sorted(ready, key=self._priority.__getitem__, reverse=True):
            if session.stop.is_set() or len(self._running) == session.jobs:
                return
            place = session.slots.acquire(graph.kind(address))
            if place is None:
                continue
            self._waiting.remove(address)
            session.places[address] = place
            self._running.add(address)
            self._progress.stage_started(address)
            self._start(address)

    def _start(self, address: str) -> None:
        """Run the stage in a Prefect task or, once the server is lost, in a plain thread."""
        session = self._session
        if not session.server_lost.is_set():
            needs = session.plan.needs[address]
            upstream = [self._futures[need] for need in needs if need in self._futures]
            named_task = stage_task.with_options(task_run_name=address)
            try:
                self._futures[address] = named_task.submit(address, wait_for=upstream)  # type: ignore[call-overload]
                return
            except SERVER_ERRORS:
                session.server_lost.set()
        threading.Thread(target=_run, args=(session, address, lambda line: None)).start()

    def _collect(self) -> None:
        """Record the result of one stage that has ended, if one ends within `_WAIT_SECONDS`."""
        session = self._session
        try:
            address = session.ended.get(timeout=_WAIT_SECONDS)
        except queue.Empty:
            self._restart_lost()
            self._progress.waited()
            return

        self._running.discard(address)
        session.places.pop(address).release()
        result = session.results[address]
        self._progress.stage_ended(address, result)
        if result.state in ("ran", "cached"):
            self._up_to_date.add(address)
        elif result.state == "failed":
            for blocked in session.plan.below(address).intersection(self._waiting):
                self._waiting.remove(blocked)
                session.results[blocked] = Result(state="blocked", why=f"needs {address}")

    def _restart_lost(self) -> None:
        """Run stages without Prefect whose tasks it ended before they called our function, as it
        may when its server is lost."""
        for address in self._running - set(self._session.started):
            if address in self._futures and self._futures[address].state.is_final():
                self._session.server_lost.set()
                self._start(address)


def _run(session: FlowState, address: str, log_line: Callable[[str], None]) -> Result:
    """Run the stage in this thread; put its result and then its address into the session."""
    session.started.append(address)
    result = Result(state="failed", why="it could not be started")
    try:
        env = session.threads | session.places[address].environment()
        log = session.logs / f"{address.replace('/', '_')}.log"
        result = run_stage.run(
            session.workers, address, env, log, session.settings, session.stop, log_line
        )
    except OSError as error:  # its log cannot be written: the disk is full, say
        result = Result(state="failed", why=describe_error(error))
    finally:
        session.results[address] = result
        session.ended.put(address)
    return result


@task(name="stage", cache_policy=NO_CACHE, persist_result=False, retries=0)
def stage_task(address: str) -> State[Any]:
    """Run one stage in a thread of Prefect's; its output goes to the task's log."""
    result = _run(_SESSION.get(), address, get_run_logger().info)
    reason = f": {result.why}" if result.why else ""
    message = f"{result.state} in {result.seconds:.1f} s{reason}"
    if result.state == "failed":
        return Failed(message=message)
    if result.state == "cancelled":
        return Cancelled(message=message)
    return Completed(name="Cached" if result.state == "cached" else "Completed", message=message)


@task(name="stage", cache_policy=NO_CACHE, persist_result=False, retries=0)
def show_cached() -> State[Any]:
    """Show a stage that is up to date, with all that it depends on: nothing is started."""
    return Completed(name="Cached", message="up to date")


@contextmanager
def _watch_for_cancel(session: FlowState) -> Iterator[None]:
    """End the run when it is cancelled on Prefect's pages.

    Prefect's runners and workers do so for flows that they have started; nothing does for a flow in
    this process.
    """
    over = threading.Event()
    watched = [UUID(run_id) for run_id in (flow_run.get_id(), session.parent) if run_id]

    def watch() -> None:
        failures = 0
        while not over.wait(_POLL_SECONDS) and failures < _FAILURES:
            try:
                with get_client(sync_client=True) as client:
                    states = [client.read_flow_run(run_id).state for run_id in watched]
                failures = 0
            except SERVER_ERRORS:
                failures += 1
                continue
            if any(state and (state.is_cancelling() or state.is_cancelled()) for state in states):
                session.interrupt = KeyboardInterrupt()
                session.stop.set()
                return
        if failures == _FAILURES:
            session.server_lost.set()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()


def sync(root: Path) -> str:
    """Run `seqline sync` in a subprocess; return its last line, or its error's. Raise nothing."""
    program = "import sys; from pipeline.cli import main; sys.argv = ['seqline', 'sync']; main()"
    process = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=False
    )
    output = process.stderr if process.returncode else process.stdout
    lines = [line for line in output.splitlines() if line.strip()]
    return lines[-1] if lines else f"seqline sync: status {process.returncode}"
