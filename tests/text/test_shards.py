"""Batches computed by other processes and by a Dask cluster: the same bytes, little memory, one
line when workers fail."""

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import stage_runs
import yaml
from shard_functions import die_on_seven, refuse_seven, square, whose
from waiting import wait_for

from pipeline.core import tables
from pipeline.core.errors import UserError
from pipeline.core.params import Compute
from pipeline.text import shards

ROOT = Path(__file__).resolve().parents[2]
DASK = Path(sys.executable).with_name("dask")
ALONE = Compute(device="cpu", slots=1, processes=1, workers=1, cluster=None)
NOUNS = ["cat", "tree", "sun", "moon", "sea", "the king's horse", "3.14", "caf\u00e9", "<eos>"]


class Cluster:
    """A Dask scheduler on loopback, and workers that come and go."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.started = folder, list[subprocess.Popen[bytes]]()
        self.log = (folder / "log").open("ab")
        self.start(
            "scheduler",
            "--host",
            "127.0.0.1",
            "--port",
            "0",
            "--no-dashboard",
            "--scheduler-file",
            self.file,
        )
        self.address = wait_for(self.published_address, "the scheduler has not started")

    @property
    def file(self) -> str:
        return str(self.folder / "scheduler.json")

    def published_address(self) -> str | None:
        """The scheduler's address; nothing before its file is whole, which Dask writes in place."""
        assert self.started[0].poll() is None, Path(self.log.name).read_text()
        try:
            return str(json.loads(Path(self.file).read_text())["address"])
        except (FileNotFoundError, json.JSONDecodeError):
            return None

    def start(self, *arguments: str, code: Path = ROOT) -> subprocess.Popen[bytes]:
        """A `dask` command with the project at `code`."""
        inside = os.environ | {
            "PYTHONPATH": os.pathsep.join(
                [str(code), str(ROOT / "tests/helpers"), str(ROOT / "tests/text")]
            )
        }
        inside |= {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1"}
        told = {"stdout": self.log, "stderr": self.log, "cwd": self.folder}
        self.started.append(subprocess.Popen([str(DASK), *arguments], env=inside, **told))
        return self.started[-1]

    def worker(self, count: int = 1, code: Path = ROOT) -> list[subprocess.Popen[bytes]]:
        """Further workers of one thread each, once the scheduler has them."""
        wanted = self.workers() + count
        options = ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--host", "127.0.0.1"]
        found = [self.start("worker", self.address, *options, code=code) for _ in range(count)]
        wait_for(lambda: self.workers() == wanted, "a worker has not started")
        return found

    def workers(self) -> int:
        from distributed import Client

        with Client(self.address, set_as_default=False) as client:
            return len(client.nthreads())

    def close(self) -> None:
        for process in self.started:
            process.kill()
            process.wait()
        self.log.close()


@contextmanager
def opened(folder: Path) -> Iterator[Cluster]:
    cluster = Cluster(folder)
    try:
        yield cluster
    finally:
        cluster.close()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two workers that nobody harms."""
    with opened(tmp_path_factory.mktemp("cluster")) as made:
        made.worker(2)
        yield made


def compute(kind: str, address: str = "") -> Compute:
    cluster = address if kind == "dask" else None
    return Compute(
        device="cpu", slots=1, processes=1, workers=2 if kind == "processes" else 1, cluster=cluster
    )


KINDS = ["alone", "processes", "dask"]


# ---------------------------------------------------------------- the map


@pytest.mark.parametrize("kind", KINDS)
def test_results_come_in_order_and_errors_as_they_are(kind: str, cluster: Cluster) -> None:
    with shards.parallel_map(square, compute(kind, cluster.address)) as over:
        assert list(over(range(40))) == [number * number for number in range(40)]
        assert list(over([])) == []
    with shards.parallel_map(refuse_seven, compute(kind, cluster.address)) as over:
        found = over(range(40))
        assert [next(found) for _ in range(7)] == list(range(7))
        with pytest.raises(UserError, match=r"^seven: got 7; expected another number\.$"):
            next(found)


@pytest.mark.parametrize("kind", ["processes", "dask"])
def test_the_workers_are_two_other_processes(kind: str, cluster: Cluster) -> None:
    with shards.parallel_map(whose, compute(kind, cluster.address)) as over:
        found = seen(over)
    assert os.getpid() not in found


def seen(over: Callable[[Iterable[int]], Iterator[int]]) -> set[int]:
    """The first two processes that compute something."""
    found: set[int] = set()
    results = over(range(2000))
    wait_for(lambda: found.add(next(results)) or len(found) == 2, "there is one worker only")
    return found


def test_few_batches_are_in_flight_and_none_is_read_before_its_turn() -> None:
    read, submitted, taken = 0, 0, 0
    most = 0

    def items() -> Iterator[int]:
        nonlocal read
        for number in range(100):
            read += 1
            yield number

    def submit(number: int) -> "Future[int]":
        nonlocal submitted, most
        submitted += 1
        most = max(most, submitted - taken)
        future: Future[int] = Future()
        future.set_result(number)
        return future

    def result(future: "Future[int]") -> int:
        nonlocal taken
        taken += 1
        return future.result()

    found = []
    for number in shards.map_in_order(submit, result, 4, items()):
        found.append(number)
        assert read <= len(found) + 4
    assert found == list(range(100))
    assert most == 4


def test_map_closed_early_cancels_pending_futures() -> None:
    futures = [Future[int]() for _ in range(9)]
    futures[0].set_result(0)
    waiting = iter(futures)
    found = shards.map_in_order(lambda _: next(waiting), Future.result, 3, range(9))
    assert next(found) == 0
    found.close()  # type: ignore[attr-defined]
    assert [future.cancelled() for future in futures[:5]] == [False, True, True, False, False]


# ---------------------------------------------------------------- the stages


def corpora() -> dict[str, Any]:
    """A text and labels of the built-in ones, small; and pairs with everything that a row can have
    wrong."""
    every = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))["corpora"]
    found = {name: every[name] for name in ("toy_story", "toy_reviews")}
    for block in found.values():
        sizes = block["source"]["builtin"]["sizes"]
        block["source"]["builtin"]["sizes"] = dict.fromkeys(sizes, 60) | {"train": 900}
    found["odd"] = {
        "format": "tab_separated_pairs",
        "source": {},
        "read": {"files": {"all": ["odd.txt"]}, "source_column": 0, "target_column": 1},
        "limit": 1500,
        "split": {"method": "contiguous", "valid": 0.1, "test": 0.1},
        "text": {"level": "bpe", "lowercase": True, "letters_only": False, "max_tokens": 9},
        "vocab": {"corpus": "odd", "size": 300, "min_count": 1, "share": True},
        "samples": [],
    }
    return found


def odd(number: int) -> str:
    noun = NOUNS[number % len(NOUNS)]
    pairs = [f"The {noun}.\tLe {noun}.", f"A {noun} {number % 50}\tUn {noun}"]
    wrong = ["no tab", "\t\u200b", f"long{' word' * 10}\tmot", ""]
    return [*pairs, *wrong][number % 6]


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which every corpus is downloaded and nothing else has run."""
    root = tmp_path_factory.mktemp("raw")
    write(root, ALONE)
    for name in corpora():
        if name != "odd":
            stage_runs.run(root, "download", name)
    (root / "data/raw/odd").mkdir()
    (root / "data/raw/odd/odd.txt").write_text("\n".join(map(odd, range(2400))), encoding="utf-8")
    return root


def write(root: Path, here: Compute) -> None:
    block = {name: getattr(here, name) for name in Compute.__dataclass_fields__}
    (root / "params.yaml").write_text(
        yaml.safe_dump({"compute": block, "corpora": corpora()}), encoding="utf-8"
    )


def run_data_stages(raw: Path, root: Path, here: Compute) -> dict[str, str]:
    """The data stages of every corpus in a copy of `raw`; the content of every file that they
    write."""
    shutil.copytree(raw, root)
    write(root, here)
    for name in corpora():
        for stage in ("tokenize", "vocab", "encode"):
            stage_runs.run(root, stage, name)
    files = [
        file for top in ("data", "reports") for file in (root / top).rglob("*") if file.is_file()
    ]
    ours = [file for file in files if "raw" not in file.parts and not file.name.startswith(".")]
    return {
        str(file.relative_to(root)): hashlib.sha256(file.read_bytes()).hexdigest() for file in ours
    }


@pytest.mark.long
def test_the_outputs_are_the_same_bytes_wherever_they_were_computed(
    raw: Path, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.corpora._BLOCK", 2048)
    monkeypatch.setattr("pipeline.text.rows._ROW_GROUP_BYTES", 9000)
    monkeypatch.setattr(tables, "batches", partial(tables.batches, rows=40))
    flights: list[int] = []  # of each map, the most that were in flight
    ordered = shards.map_in_order

    def watched(submit: Any, result: Any, limit: int, items: Iterable[Any]) -> Iterator[Any]:
        flying, place = 0, len(flights)
        flights.append(0)

        def up(item: Any) -> Any:
            nonlocal flying
            flying += 1
            flights[place] = max(flights[place], flying)
            return submit(item)

        def down(future: Any) -> Any:
            nonlocal flying
            found = result(future)
            flying -= 1
            return found

        return ordered(up, down, limit, items)

    monkeypatch.setattr(shards, "map_in_order", watched)
    found = {
        kind: run_data_stages(raw, tmp_path / kind, compute(kind, cluster.address))
        for kind in KINDS
    }
    assert found["processes"] == found["alone"]
    assert found["dask"] == found["alone"]
    assert len(found["alone"]) > 30
    # two kinds of workers, three stages; several splits in encode
    assert len(flights) > 2 * 3 * len(corpora())
    assert max(flights) == 2 * shards.BATCHES_PER_WORKER
    assert pq.ParquetFile(tmp_path / "alone/data/tokens/odd/train.parquet").num_row_groups > 3
    report = yaml.safe_load((tmp_path / "alone/reports/corpora/odd.json").read_text())
    assert report["blank_lines"] > 100
    train = report["splits"]["train"]
    assert len(train["rejected"]) == 3
    assert train["duplicates"] > 100


# ---------------------------------------------------------------- what goes wrong


def test_dead_process_is_reported_in_one_line() -> None:
    expected = (
        r"^compute\.workers: got a process that died; expected one that lives until .* "
        r"use fewer workers\.$"
    )
    with (
        pytest.raises(UserError, match=expected),
        shards.parallel_map(die_on_seven, compute("processes")) as over,
    ):
        list(over(range(40)))


def test_no_worker_outlives_a_process_that_is_killed() -> None:
    program = """
import shard_functions, test_shards
from pipeline.text import shards
if __name__ == "__main__":
    with shards.parallel_map(shard_functions.whose, test_shards.compute("processes")) as over:
        print(*test_shards.seen(over), flush=True)
        list(over(range(10_000)))
"""
    inside = os.environ | {
        "PYTHONPATH": os.pathsep.join(
            [str(ROOT), str(ROOT / "tests/helpers"), str(ROOT / "tests/text")]
        )
    }
    killed = subprocess.Popen(
        [sys.executable, "-c", program], env=inside, stdout=subprocess.PIPE, text=True
    )
    assert killed.stdout is not None
    workers = [int(word) for word in killed.stdout.readline().split()]
    assert len(workers) == 2
    killed.kill()
    killed.wait()
    wait_for(lambda: not any(alive(pid) for pid in workers), "a worker outlived its parent")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def refused(
    here: Compute,
    function: Callable[[int], int] = square,
    count: int = 40,
    at_each_result: Callable[[int], object] = lambda _: None,
) -> str:
    with pytest.raises(UserError) as caught, shards.parallel_map(function, here) as over:
        list(map(at_each_result, over(range(count))))
    line = str(caught.value)
    assert line.startswith("compute.cluster: got ")
    assert "\n" not in line
    return line


@pytest.mark.long
def test_an_address_where_no_scheduler_answers_is_refused(
    monkeypatch: pytest.MonkeyPatch, project: Path, edited: Any
) -> None:
    from pipeline.cli import health_checks

    monkeypatch.setattr(shards, "CONNECT_SECONDS", 1)
    # something listens there, but it is no scheduler
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for port in (9, silent.getsockname()[1]):
            address = f"tcp://127.0.0.1:{port}"
            assert f"got no answer at {address}; expected a Dask scheduler." in refused(
                compute("dask", address)
            )
        edited(project, "compute.cluster", address)
        found = health_checks.cluster(project)
        assert (found.state, found.subject) == ("FAIL", "cluster")
        assert "no answer" in found.detail


def test_missing_dask_message_shows_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dask", None)
    assert "pip install" in refused(compute("dask", "tcp://127.0.0.1:9"))


def test_doctor_reports_a_healthy_cluster(cluster: Cluster, project: Path, edited: Any) -> None:
    from pipeline.cli import health_checks

    assert health_checks.cluster(project).state == "ok"
    edited(project, "compute.cluster", cluster.address)
    finding = health_checks.cluster(project)
    assert (finding.state, finding.subject) == ("ok", "cluster")
    assert finding.detail == f"{cluster.address} answers, 2 batches at a time"


@pytest.mark.long
def test_a_cluster_that_cannot_do_the_work_is_refused_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "WORKER_WAIT_SECONDS", 1)
    shutil.copytree(
        ROOT / "pipeline", tmp_path / "other/pipeline", ignore=shutil.ignore_patterns("__pycache__")
    )
    with (tmp_path / "other/pipeline/text/tokens.py").open("a") as file:
        file.write("# edited\n")
    with opened(tmp_path) as own:
        here = compute("dask", own.address)
        assert (
            f"got no worker at {own.address}; expected at least one. Run `dask worker"
            in refused(here)
        )
        [strange] = own.worker(code=tmp_path / "other")
        assert "a worker with other code or other versions at tcp://127.0.0.1:" in refused(here)
        strange.kill()
        wait_for(lambda: own.workers() == 0, "the scheduler does not see that its worker is gone")
        own.worker()
        assert "got no worker" in refused(here, die_on_seven)
        own.worker(3)  # two die of it, which is once more than is allowed
        assert "got workers that died one after another" in refused(here, die_on_seven)
        line = refused(here, whose, 10_000, at_each_result=lambda _: own.started[0].kill())
        assert "got a scheduler or workers that went away at " in line
