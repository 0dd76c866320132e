"""A function over the batches of a corpus, in this process, in several of this machine's, or on a
Dask cluster.

Either way it is a `concurrent.futures` executor. Results come in the batches' order and only a few
batches are in flight, so that what is written is the same bytes wherever it was computed, and
memory does not grow with the corpus. A worker unpacks the function once, with the vocabulary or
settings in it, and is given batches, never paths: a cluster need not share this disk. It must have
the same code, which is compared.

Processes are spawned, not forked: Arrow and `tokenizers` keep threads, which a fork would lose
while it keeps their locks."""

import asyncio
import functools
import hashlib
import logging
import multiprocessing
import os
import pickle
import platform
import signal
import threading
import unicodedata
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from pipeline.core.errors import UserError, refuse
from pipeline.core.params import Compute

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
MapFunction = Callable[[Iterable[A]], Iterator[B]]  # what `map` does for one function

BATCHES_PER_WORKER = 2  # batches in flight for each worker: one at work and the next one at hand
CONNECT_SECONDS = 10
# how long a cluster may be without any worker: a dead one is started again by its nanny
WORKER_WAIT_SECONDS = 30

_function: Any = None  # in a spawned process, what it is there for


def parallel_map(
    function: Callable[[A], B], compute: Compute
) -> AbstractContextManager[MapFunction[A, B]]:
    """A context whose value is `map` for `function`, by as many workers as `compute` says; with
    one, in this process.

    `function` and what it returns must be picklable, and `function` must be one of a module, or a
    partial of one. UserError, naming the key, for a cluster that cannot be used or workers that
    die."""
    if compute.cluster is not None:
        return _cluster(function, compute.cluster)
    if compute.workers > 1:
        return _processes(function, compute.workers)
    return nullcontext(functools.partial(map, function))


def cluster_capacity(address: str) -> int:
    """Number of batches that the cluster's workers compute at once, after a check of their code;
    UserError as `parallel_map`."""
    with _connected(address) as client:
        return _threads(client, address)


def map_in_order(
    submit: Callable[[A], "Future[C]"],
    result: Callable[["Future[C]"], B],
    limit: int,
    items: Iterable[A],
) -> Iterator[B]:
    """The results of `items` in their order, of which `limit` at most are submitted and not yet
    taken."""
    waiting: deque[Future[C]] = deque()
    try:
        for item in items:
            if len(waiting) == limit:
                yield result(waiting.popleft())
            waiting.append(submit(item))
        while waiting:
            yield result(waiting.popleft())
    finally:
        for future in waiting:
            future.cancel()


@contextmanager
def _processes(function: Callable[[A], B], count: int) -> Iterator[MapFunction[A, B]]:
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(count, context, initializer=_begin, initargs=(function,))
    try:
        yield functools.partial(
            map_in_order,
            lambda item: executor.submit(_call, item),
            Future.result,
            BATCHES_PER_WORKER * count,
        )
    except BrokenProcessPool:
        todo = "If memory ran out, use fewer workers."
        raise refuse(
            "compute.workers", "a process that died", "one that lives until the stage is done", todo
        ) from None
    finally:
        executor.shutdown(cancel_futures=True)


def _begin(function: Callable[[Any], Any]) -> None:
    """Prepare a spawned process."""
    global _function
    _function = function
    # Ctrl-C reaches the whole group; the first process ends the others
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    pa.set_cpu_count(1)  # several processes share the cores already
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _call(item: Any) -> Any:
    return _function(item)


@contextmanager
def _cluster(function: Callable[[A], B], address: str) -> Iterator[MapFunction[A, B]]:
    with _connected(address) as client:
        limit = BATCHES_PER_WORKER * _threads(client, address)
        # with every batch, so that a worker may come or be started again at any time
        packed = pickle.dumps(function)
        executor: Executor = client.get_executor(pure=False)

        def submit(item: A) -> "Future[bytes]":
            return executor.submit(_call_there, code_digest(), packed, pickle.dumps(item))

        def result(future: "Future[bytes]") -> B:
            while not wait([future], WORKER_WAIT_SECONDS).done:
                _threads(client, address)
            made: B = pickle.loads(future.result())
            return made

        yield functools.partial(map_in_order, submit, result, limit)


def _call_there(expected: str, function: bytes, item: bytes) -> bytes:
    """Pickled both ways: Dask takes no look inside, and Arrow's buffers are aligned, as those in
    its frames are not."""
    if (
        code_digest() != expected
    ):  # the workers of the beginning were compared; this one has come later
        raise _other_code(platform.node())
    return pickle.dumps(_unpacked(function)(pickle.loads(item)))  # from the cluster's own client


@functools.lru_cache(maxsize=4)
def _unpacked(function: bytes) -> Callable[[Any], Any]:
    made: Callable[[Any], Any] = pickle.loads(function)
    return made


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    """A Dask client; whatever can become of its cluster while it is in use is told in one line."""
    try:
        import dask
        import distributed
        from distributed.comm import CommClosedError
    except ImportError:
        todo = "Run `pip install -c constraints.txt -e '.[cluster]'`, or set it to null."
        raise refuse(
            "compute.cluster", f"{address} without the package distributed", "Dask here too", todo
        ) from None
    for name in ("distributed", "distributed.client", "tornado.application"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what matters of it is told below
    # a batch of long texts has tens of MiB
    dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 GiB"})
    try:
        _greet(address)
        client = distributed.Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, MemoryError):  # whatever listens there may send anything
        raise _refused(address, "no answer", "a Dask scheduler") from None
    try:
        yield client
    except distributed.KilledWorker:
        raise _refused(
            address,
            "workers that died one after another over a batch",
            "workers with enough memory",
        ) from None
    except (CancelledError, CommClosedError):
        raise _refused(
            address, "a scheduler or workers that went away", "a cluster that stays"
        ) from None
    finally:
        client.close()


def _greet(address: str) -> None:
    """Wait for the greeting of the cluster; a client waits forever for a server that says
    nothing."""
    from distributed import Security
    from distributed.comm import connect

    async def greet() -> None:
        options = Security().get_connection_args("client")
        comm = await asyncio.wait_for(
            connect(address, timeout=CONNECT_SECONDS, **options), CONNECT_SECONDS
        )
        comm.abort()

    asyncio.run(greet())


def _threads(client: Any, address: str) -> int:
    """Number of tasks that the cluster runs at once; UserError if none, or if a worker has other
    code than this process."""
    found = client.run(code_digest, on_error="return")
    if not found:
        raise _refused(
            address,
            "no worker",
            "at least one",
            f"Run `dask worker {address}` in this project's environment.",
        )
    for worker, its in found.items():
        if its != code_digest():
            raise _other_code(worker)
    return sum(client.nthreads().values())


@functools.cache
def code_digest() -> str:
    """A digest of what two processes must have in common to make the same of a batch."""
    import numpy
    import tokenizers

    versions = [platform.python_version(), unicodedata.unidata_version]
    versions += [module.__version__ for module in (numpy, pa, tokenizers)]
    total = hashlib.sha256(" ".join(versions).encode())
    top = Path(__file__).parent
    for file in sorted([*top.glob("*.py"), *top.glob("text/*.py")]):
        total.update(file.name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()


def _refused(
    address: str, got: str, expected: str, todo: str = "Mend it, or set the key to null."
) -> UserError:
    return refuse("compute.cluster", f"{got} at {address}", expected, todo)


def _other_code(worker: str) -> UserError:
    todo = "Bring its clone and its environment level with this one and start it again."
    return refuse(
        "compute.cluster",
        f"a worker with other code or other versions at {worker}",
        "this project's",
        todo,
    )
