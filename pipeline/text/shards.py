"""Map a function over the batches of a corpus: in this process, in several local processes, or on a
Dask cluster.

Processes and clusters are both used as a `concurrent.futures` executor. Results are returned in the
batches' order, so that the outputs have the same bytes wherever they were computed. Only a few
batches are in flight, so that memory does not grow with the corpus. A worker unpickles the function
once, with the vocabulary or settings in it, and receives batches, never paths: a cluster need not
share this disk. It must have the same code, which is compared.

Processes are spawned, not forked: a fork would copy the locks of Arrow and `tokenizers` without the
threads that hold them."""

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

from pipeline.core.digest import add_file
from pipeline.core.errors import UserError, refuse
from pipeline.core.params import Compute

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
MapFunction = Callable[[Iterable[A]], Iterator[B]]  # `map` with the function applied

BATCHES_PER_WORKER = 2  # batches in flight for each worker: the current one and the next one
CONNECT_SECONDS = 10
# Maximum time of a cluster without workers: a nanny restarts a dead worker.
WORKER_WAIT_SECONDS = 30

_function: Any = None  # in a spawned process: the function to map


def parallel_map(
    function: Callable[[A], B], compute: Compute
) -> AbstractContextManager[MapFunction[A, B]]:
    """Return a context manager of `map` for `function`, with the workers in `compute`; a single
    worker is this process.

    `function` and its results must be picklable, and `function` must be defined in a module, or be
    a partial of such a function. UserError, naming the key, for a cluster that cannot be used or
    workers that die."""
    if compute.cluster is not None:
        return _cluster(function, compute.cluster)
    if compute.workers > 1:
        return _processes(function, compute.workers)
    return nullcontext(functools.partial(map, function))


def cluster_capacity(address: str) -> int:
    """Number of batches that the cluster computes at once, after a check of its workers' code;
    UserError as `parallel_map`."""
    with _connect(address) as client:
        return _thread_count(client, address)


def map_in_order(
    submit: Callable[[A], "Future[C]"],
    result: Callable[["Future[C]"], B],
    limit: int,
    items: Iterable[A],
) -> Iterator[B]:
    """Return the results of `items` in order, with at most `limit` of them in flight."""
    pending: deque[Future[C]] = deque()
    try:
        for item in items:
            if len(pending) == limit:
                yield result(pending.popleft())
            pending.append(submit(item))
        while pending:
            yield result(pending.popleft())
    finally:
        for future in pending:
            future.cancel()


@contextmanager
def _processes(function: Callable[[A], B], count: int) -> Iterator[MapFunction[A, B]]:
    context = multiprocessing.get_context("spawn")
    # Each process receives the function once, in its initializer.
    executor = ProcessPoolExecutor(count, context, initializer=_start_process, initargs=(function,))
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


def _start_process(function: Callable[[Any], Any]) -> None:
    """Prepare a spawned process."""
    global _function
    _function = function

    # Ctrl-C reaches the whole process group; the parent ends its workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, daemon=True).start()

    # The processes already share the cores: no further threads in each.
    pa.set_cpu_count(1)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


def _exit_with_parent() -> None:
    """End this process if its parent dies, even if it was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _call(item: Any) -> Any:
    return _function(item)


@contextmanager
def _cluster(function: Callable[[A], B], address: str) -> Iterator[MapFunction[A, B]]:
    with _connect(address) as client:
        limit = BATCHES_PER_WORKER * _thread_count(client, address)
        # Sent with every batch: a worker may join or be restarted at any time.
        pickled = pickle.dumps(function)
        executor: Executor = client.get_executor(pure=False)

        def submit(item: A) -> "Future[bytes]":
            return executor.submit(_call_on_worker, code_digest(), pickled, pickle.dumps(item))

        def result(future: "Future[bytes]") -> B:
            while not wait([future], WORKER_WAIT_SECONDS).done:
                _thread_count(client, address)
            value: B = pickle.loads(future.result())
            return value

        yield functools.partial(map_in_order, submit, result, limit)


def _call_on_worker(expected: str, function: bytes, item: bytes) -> bytes:
    """Call the pickled function on a pickled batch, both from the cluster's client; pickle the
    result.

    Dask does not inspect pickled bytes, and unpickled Arrow buffers are aligned, unlike those in
    Dask's frames."""
    # A worker that joined later was not compared at the beginning.
    if code_digest() != expected:
        raise _code_mismatch(platform.node())
    return pickle.dumps(_unpickled(function)(pickle.loads(item)))


@functools.lru_cache(maxsize=4)
def _unpickled(function: bytes) -> Callable[[Any], Any]:
    value: Callable[[Any], Any] = pickle.loads(function)
    return value


@contextmanager
def _connect(address: str) -> Iterator[Any]:
    """Open a Dask client; every failure of its cluster is a UserError of one line."""
    try:
        import dask
        import distributed
        from distributed.comm import CommClosedError
    except ImportError:
        todo = "Run `pip install -c constraints.txt -e '.[cluster]'`, or set it to null."
        raise refuse(
            "compute.cluster", f"{address} without the package distributed", "Dask here too", todo
        ) from None

    # The errors below replace these loggers' messages.
    for name in ("distributed", "distributed.client", "tornado.application"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # A batch of long texts has tens of MiB.
    dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 GiB"})
    try:
        _handshake(address)
        client = distributed.Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    # Another kind of server may send any bytes.
    except (OSError, ValueError, MemoryError):
        raise _cluster_error(address, "no answer", "a Dask scheduler") from None

    try:
        yield client
    except distributed.KilledWorker:
        raise _cluster_error(
            address,
            "workers that died one after another over a batch",
            "workers with enough memory",
        ) from None
    except (CancelledError, CommClosedError):
        raise _cluster_error(
            address, "a scheduler or workers that went away", "a cluster that stays"
        ) from None
    finally:
        client.close()


def _handshake(address: str) -> None:
    """Wait for the scheduler's handshake: the client has no timeout for a silent server."""
    from distributed import Security
    from distributed.comm import connect

    async def greet() -> None:
        options = Security().get_connection_args("client")
        comm = await asyncio.wait_for(
            connect(address, timeout=CONNECT_SECONDS, **options), CONNECT_SECONDS
        )
        comm.abort()

    asyncio.run(greet())


def _thread_count(client: Any, address: str) -> int:
    """Number of tasks that the cluster runs at once; UserError if it has no worker, or one with
    other code than this process."""
    digests = client.run(code_digest, on_error="return")
    if not digests:
        raise _cluster_error(
            address,
            "no worker",
            "at least one",
            f"Run `dask worker {address}` in this project's environment.",
        )
    for worker, digest in digests.items():
        if digest != code_digest():
            raise _code_mismatch(worker)
    return sum(client.nthreads().values())


@functools.cache
def code_digest() -> str:
    """Digest of the code and versions that must agree for two processes to compute the same."""
    import numpy
    import tokenizers

    versions = [platform.python_version(), unicodedata.unidata_version]
    versions += [module.__version__ for module in (numpy, pa, tokenizers)]
    digest = hashlib.sha256(" ".join(versions).encode())
    package = Path(__file__).parent
    for file in sorted([*package.glob("*.py"), *package.glob("text/*.py")]):
        add_file(digest, file.name, file)
    return digest.hexdigest()


def _cluster_error(
    address: str, got: str, expected: str, todo: str = "Fix it, or set the key to null."
) -> UserError:
    return refuse("compute.cluster", f"{got} at {address}", expected, todo)


def _code_mismatch(worker: str) -> UserError:
    return refuse(
        "compute.cluster",
        f"a worker with other code or other versions at {worker}",
        "this project's",
        "Update its clone and its environment to this project's, and start it again.",
    )
