"""`reproduce`: DVC's stages as a Prefect flow, one task per stage; those that are ready run beside
one another.

The flow's own thread starts stages, the critical path first (`dag/expected_time.py`). Prefect's
tasks show their states and logs. Prefect never repeats, times out or caches a stage: DVC knows what
is up to date, and `dag/run_stage.py` ends processes, which a task's time limit does not."""

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
from pipeline.core.errors import told
from pipeline.dag import expected_time, graph, lock_order, run_settings, run_stage
from pipeline.dag.fork_client import Workers
from pipeline.dag.run_stage import Result
from pipeline.flow import devices, display, prefect_server
from pipeline.flow.outcome import Outcome
from pipeline.flow.server_errors import SERVER_ERRORS

_TICK_SECONDS, _ASK_SECONDS = 0.25, 3.0
_FAILURES = 3  # of its answers in a row: then the server is lost, and not merely busy


class Session:
    """All that one run knows; reached by its tasks through a context variable, since Prefect would
    look into arguments."""

    def __init__(self, root: Path, jobs: int, workers: Workers, plan: graph.Plan) -> None:
        self.root, self.jobs, self.workers, self.plan = root, jobs, workers, plan
        self.rules, self.slots, self.threads = (
            run_settings.load(root),
            devices.project_slots(root),
            devices.threads(jobs),
        )
        self.logs = root / state_dir.new_log_folder()
        self.stop, self.lost = threading.Event(), threading.Event()
        self.done: queue.Queue[str] = queue.Queue()
        self.results: dict[str, Result] = {}
        self.places: dict[str, devices.Place] = {}
        self.begun: list[str] = []
        self.outer: str | None = flow_run.get_id()  # the flow that this one is a part of
        self.interrupted: BaseException | None = None
        self.began = time.monotonic()

    def outcome(self, note: str = "") -> Outcome:
        """Collect the results, in the plan's order."""
        ended = {
            address: self.results.get(address, Result(state="cancelled"))
            for address in self.plan.needs
        }
        return Outcome(ended, time.monotonic() - self.began, self.root, note)


_SESSION: ContextVar[Session] = ContextVar("session")


def reproduce(
    root: Path, targets: Sequence[str], jobs: int, workers: Workers | None = None
) -> Outcome:
    """Bring the targets (all stages, if there are none) up to date, `jobs` at a time; a flow, or a
    subflow within one.

    `workers` may have been started for the same targets before. UserError for what cannot be run at
    all; a failed stage is in the outcome. After Ctrl-C, SIGTERM or Prefect's cancel everything is
    ended, and what interrupted is raised again with the outcome as its `outcome`. The caller holds
    `alone` and has called `server.prepare`."""
    root = root.resolve()
    with ExitStack() as held:
        workers = workers or held.enter_context(Workers(root, targets))
        plan, locked = workers.plan()
        session = Session(root, jobs, workers, plan)
        memory = lock_order.Memory(root, locked)
        if plan.stale():
            memory.keep()
        note = _as_flow(session, targets)
        ordered = True
        # one that was killed after its last stage left all fresh and out of order
        if plan.stale() or memory.kept:
            ordered = workers.order_lock(memory.before, list(plan.needs))
        expected_time.learn(
            root,
            {a: result.seconds for a, result in session.results.items() if result.state == "ran"},
        )
        outcome = session.outcome(note)
        if outcome.ok and ordered:
            memory.drop()
    if session.interrupted is not None:
        session.interrupted.outcome = outcome  # type: ignore[attr-defined]
        raise session.interrupted
    return outcome


def _as_flow(session: Session, targets: Sequence[str]) -> str:
    """Run the flow; what became of the Prefect server, if it went away meanwhile."""
    token = _SESSION.set(session)
    try:
        stages(list(targets), session.jobs, return_state=True)
    except SERVER_ERRORS as error:
        if not session.results:
            raise
        return (
            f"Prefect's server was lost on the way ({type(error).__name__}): its pages lack "
            "the end of this run."
        )
    finally:
        session.stop.set()
        _SESSION.reset(token)
    return ""


def _named() -> str:
    return ", ".join(flow_run.get_parameters().get("targets", [])) or "all stages"


@flow(
    name="reproduce",
    flow_run_name=_named,
    task_runner=ThreadPoolTaskRunner(),  # type: ignore[arg-type] # as many threads as stages run: `jobs` is kept below
    retries=0,
    persist_result=False,
    validate_parameters=False,
)
def stages(targets: list[str], jobs: int) -> State[Any]:
    """Prefect's view of `reproduce`, which alone calls it."""
    session = _SESSION.get()
    shown = display.display(len(session.plan.stale()))
    try:
        with _cancel_watched(session):
            Scheduler(session, shown).work()
    except (KeyboardInterrupt, TerminationSignal) as error:
        session.interrupted = error
    finally:
        shown.close()
    if session.lost.is_set():
        prefect_server.stop_retrying()
    outcome = session.outcome()
    get_run_logger().info(outcome.summary())
    if session.interrupted is not None:
        return Cancelled(message="interrupted; every stage that ran was ended")
    return Completed(message=outcome.summary()) if outcome.ok else Failed(message=outcome.summary())


class Scheduler:
    """The flow's thread: starts what is ready, in the order of the longest way to the end, until
    nothing is left."""

    def __init__(self, session: Session, shown: display.Display) -> None:
        self._session, self._shown, plan = session, shown, session.plan
        self._priority = expected_time.priorities(plan, expected_time.seconds(session.root))
        self._missing = {address: set(plan.needs[address]) for address in plan.stale()}
        self._dependents = plan.dependents()
        self._running: set[str] = set()
        self._futures: dict[str, Any] = {}

    def work(self) -> None:
        """Until every stage is over; what interrupts comes out when all that ran has been ended."""
        try:
            for address in self._session.plan.needs:
                if address in self._session.plan.fresh:
                    self._is_fresh(address)
            self._start_ready()
            while self._running:
                self._collect()
                self._start_ready()
        finally:
            self._session.stop.set()
            while self._running:  # a second Ctrl-C is no reason to leave an orphan
                try:
                    self._collect()
                except (KeyboardInterrupt, TerminationSignal):
                    continue

    def _is_fresh(self, address: str) -> None:
        before = [self._futures[need] for need in self._session.plan.needs[address]]
        named = show_cached.with_options(task_run_name=address)
        self._futures[address] = named.submit(wait_for=before)  # type: ignore[call-overload]
        self._session.results[address] = Result(state="cached")
        for other in self._dependents[address]:
            self._missing.get(other, set()).discard(address)

    def _start_ready(self) -> None:
        session = self._session
        ready = [address for address, missing in self._missing.items() if not missing]
        for address in sorted(ready, key=self._priority.__getitem__, reverse=True):
            if session.stop.is_set() or len(self._running) == session.jobs:
                return
            place = session.slots.acquire(graph.kind(address))
            if place is None:
                continue
            del self._missing[address]
            session.places[address] = place
            self._running.add(address)
            self._shown.began(address)
            self._start(address)

    def _start(self, address: str) -> None:
        """As a task of Prefect's or, once its server is lost, in a plain thread: what runs is the
        same."""
        if not self._session.lost.is_set():
            try:
                before = [
                    self._futures[need]
                    for need in self._session.plan.needs[address]
                    if need in self._futures
                ]
                named = stage_task.with_options(task_run_name=address)
                self._futures[address] = named.submit(address, wait_for=before)  # type: ignore[call-overload]
                return
            except SERVER_ERRORS:
                self._session.lost.set()
        threading.Thread(target=_run, args=(self._session, address, lambda line: None)).start()

    def _collect(self) -> None:
        """Take in one stage that has ended, if there is one within a moment."""
        session = self._session
        try:
            address = session.done.get(timeout=_TICK_SECONDS)
        except queue.Empty:
            self._take_up_lost()
            return
        self._running.discard(address)
        session.places.pop(address).release()
        result = session.results[address]
        self._shown.ended(address, result)
        if result.state in ("ran", "cached"):
            for other in self._dependents[address]:
                self._missing.get(other, set()).discard(address)
        elif result.state == "failed":
            for other in [a for a in self._missing if a in session.plan.below(address)]:
                del self._missing[other]
                session.results[other] = Result(state="blocked", why=f"needs {address}")

    def _take_up_lost(self) -> None:
        """A task that Prefect ended before our function was called, as it may when its server is
        lost: run without it."""
        for address in self._running - set(self._session.begun):
            if address in self._futures and self._futures[address].state.is_final():
                self._session.lost.set()
                self._start(address)


def _run(session: Session, address: str, say: Callable[[str], None]) -> Result:
    session.begun.append(address)
    result = Result(state="failed", why="it could not be started")
    try:
        env = session.threads | session.places[address].environment()
        log = session.logs / f"{address.replace('/', '_')}.log"
        result = run_stage.run(session.workers, address, env, log, session.rules, session.stop, say)
    except OSError as error:  # no place for its log, say: the disk is full, or a file is in the way
        result = Result(state="failed", why=told(error))
    finally:
        session.results[address] = result
        session.done.put(address)
    return result


@task(name="stage", cache_policy=NO_CACHE, persist_result=False, retries=0)
def stage_task(address: str) -> State[Any]:
    """One stage, in a thread of Prefect's; its log goes to the task's."""
    result = _run(_SESSION.get(), address, get_run_logger().info)
    message = f"{result.state} in {result.seconds:.1f} s{f': {result.why}' if result.why else ''}"
    if result.state == "failed":
        return Failed(message=message)
    if result.state == "cancelled":
        return Cancelled(message=message)
    return Completed(name="Cached" if result.state == "cached" else "Completed", message=message)


@task(name="stage", cache_policy=NO_CACHE, persist_result=False, retries=0)
def show_cached() -> State[Any]:
    """A stage that is up to date, and so are all that it stands on: nothing is started for it."""
    return Completed(name="Cached", message="up to date")


@contextmanager
def _cancel_watched(session: Session) -> Iterator[None]:
    """See to it that a run cancelled on Prefect's pages is ended: nobody else tells a flow that no
    worker started."""
    over, watched = (
        threading.Event(),
        [UUID(name) for name in (flow_run.get_id(), session.outer) if name],
    )

    def watch() -> None:
        failures = 0
        while not over.wait(_ASK_SECONDS) and failures < _FAILURES:
            try:
                with get_client(sync_client=True) as client:
                    states = [client.read_flow_run(one).state for one in watched]
                failures = 0
            except SERVER_ERRORS:
                failures += 1
                continue
            if any(
                state is not None and (state.is_cancelling() or state.is_cancelled())
                for state in states
            ):
                session.interrupted = KeyboardInterrupt()
                session.stop.set()
                return
        if failures == _FAILURES:
            session.lost.set()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()


def sync(root: Path) -> str:
    """`seqline sync` in a process of its own; what it said, or in a line why it could not. Never an
    error."""
    program = "import sys; from pipeline.cli import main; sys.argv = ['seqline', 'sync']; main()"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=False
    )
    lines = [
        line
        for line in (done.stdout if done.returncode == 0 else done.stderr).splitlines()
        if line.strip()
    ]
    return lines[-1] if lines else f"seqline sync: status {done.returncode}"
