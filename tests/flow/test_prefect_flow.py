"""`seqline run` with a real DVC and a real Prefect server: the lock of `dvc repro`, what fails, and
what is killed."""

import contextlib
import dataclasses
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import flows
import psutil
import pytest
from waiting import HANG_SECONDS, wait_for

from benchmarks import made_dag
from pipeline.core import params
from pipeline.dag import lockfile, process_groups, run_settings, run_stage
from pipeline.dag.fork_client import ForkServer
from pipeline.flow import journal

RULES = run_settings.Run(dvc="patched", time_limits={}, retries=2, retry_seconds=0.01)
pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prefect")


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[str]:
    with flows.server(home) as url:
        yield url


@pytest.fixture
def env(home: Path, server: str) -> dict[str, str]:
    return flows.surroundings(home, server)


@pytest.fixture(scope="module")
def wanted(pattern: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The lock that `dvc repro` leaves of the twelve stages."""
    root = Path(shutil.copytree(pattern, tmp_path_factory.mktemp("dvc") / "project"))
    sleeping(root, "", 0.0)
    subprocess.run(["dvc", "repro", "--quiet"], cwd=root, check=True, capture_output=True)
    return like(root)


@pytest.fixture(scope="module")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_dag.make(tmp_path_factory.mktemp("pattern") / "project", 0.3, 1)


@pytest.fixture
def fresh_project(pattern: Path, tmp_path: Path) -> Path:
    """The twelve stages, none of which has run."""
    return Path(shutil.copytree(pattern, tmp_path / "project"))


def sleeping(root: Path, out: str, seconds: float) -> None:
    """Let the stages whose outs begin with `out` sleep so long before they write."""
    text = (root / "dvc.yaml").read_text()
    (root / "dvc.yaml").write_text(
        re.sub(rf"(work.py data/{out}\S*) [\d.]+", rf"\1 {seconds}", text)
    )


def like(root: Path) -> bytes:
    """The bytes of the project's lock but for how long its stages sleep, which is always told in
    three characters."""
    return re.sub(rb"(work.py data/\S+\s+)\d\.\d\b", rb"\1T", (root / "dvc.lock").read_bytes())


def test_the_lock_is_dvc_repro_s_and_a_second_run_starts_nothing(
    fresh_project: Path, env: dict[str, str], server: str, wanted: bytes
) -> None:
    for again in (True, False):
        done = flows.seqline(fresh_project, env, "run", "--jobs", "6")
        assert (done.returncode, done.stderr) == (0, "")
        first_line, *over, summary = done.stdout.splitlines()
        assert first_line.startswith("12 stages to run")
        ended = r"\[(\d+)/12\] \S+: done in [\d.]+ s(?:; about [\dsminh ]+ left)?"
        matches = [re.fullmatch(ended, line) for line in over]
        assert [match and match[1] for match in matches] == [str(n) for n in range(1, 13)], over
        assert re.fullmatch(r"12 stages in [\d.]+ s: 12 run", summary)
        assert like(fresh_project) == wanted
        first = (fresh_project / "dvc.lock").read_bytes()
        if again:
            for place in (fresh_project / "dvc.lock", *(fresh_project / "data").glob("[a-z]*")):
                place.unlink()
            shutil.rmtree(fresh_project / ".dvc" / "cache")
    logs = list((fresh_project / ".seqline" / "logs").iterdir())
    before = fresh_project / ".seqline" / "flow" / "before.json"
    assert not before.exists()
    as_after_a_kill(fresh_project)
    before.write_text("[]")
    done = flows.seqline(fresh_project, env, "run")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("12 up to date\n")
    assert (fresh_project / "dvc.lock").read_bytes() == first, "put in order at last"
    assert not before.exists()
    assert list((fresh_project / ".seqline" / "logs").iterdir()) == logs, "no stage was started"
    assert flows.inhabitants(fresh_project) == []


def as_after_a_kill(root: Path) -> None:
    """Turn the lock's stages round, as if a flow had been killed before it had put them in
    order."""
    found = lockfile.split_stages((root / "dvc.lock").read_text())
    assert found is not None
    (root / "dvc.lock").write_text(lockfile.join_stages(dict(reversed(found.items()))))


def test_terminal_shows_running_stages_and_final_summary(
    fresh_project: Path, env: dict[str, str], wanted: bytes
) -> None:
    sleeping(fresh_project, "model_", 1.5)
    status, said = flows.on_terminal(fresh_project, env, "run", "--jobs", "3")
    assert status == 0, said
    assert like(fresh_project) == wanted
    meanwhile = re.sub(flows.CONTROL, "", said)
    assert re.search(r"train@p +[1-9]\d* s\b", meanwhile), "it runs, for some seconds now"
    assert re.search(r"\b([1-9]) of 12 +\1 done +\S.* left\b", meanwhile)
    assert said.rindex("\x1b[?25h") > said.rindex("\x1b[?25l"), "the cursor is back"
    [summary] = flows.visible_lines(said)
    assert re.fullmatch(r"12 stages in [\d.]+ s: 12 run", summary)


def test_prefect_shows_every_stage_with_its_log(
    fresh_project: Path, env: dict[str, str], server: str
) -> None:
    assert flows.seqline(fresh_project, env, "run", "train").returncode == 0
    [flow] = flows.ask(server, "flow_runs/filter", flow_runs={"name": {"like_": "train"}})
    assert flow["state_type"] == "COMPLETED"
    found = flows.ask(server, "task_runs/filter", flow_runs={"id": {"any_": [flow["id"]]}})
    wanted = {
        "download@a",
        "download@b",
        "tokenize@a",
        "tokenize@b",
        "train@p",
        "train@q",
        "train@r",
    }
    assert {task["name"]: task["state_type"] for task in found} == dict.fromkeys(
        wanted, "COMPLETED"
    )
    ids = {task["name"]: task["id"] for task in found}
    said = flows.ask(server, "logs/filter", logs={"task_run_id": {"any_": [ids["train@q"]]}})
    assert "at work on data/model_q" in {line["message"] for line in said}
    on_disk = "".join(
        path.read_text() for path in (fresh_project / ".seqline" / "logs").rglob("train@q.log")
    )
    assert "at work on data/model_q" in on_disk
    assert not (fresh_project / "data" / "pack").exists(), "not asked for"


def test_failed_stage_stops_only_its_dependents(
    fresh_project: Path, env: dict[str, str], wanted: bytes
) -> None:
    broken = (
        "if out.endswith('tokens_b'): sys.exit('seqline: corpora.b: got tabs; expected "
        "none. Fix it.') or sys.exit(2)"
    )
    text = (fresh_project / "work.py").read_text()
    (fresh_project / "work.py").write_text(
        f"{text.replace('began = ', broken + chr(10) + 'began = ')}"
    )
    done = flows.seqline(fresh_project, env, "run", "--jobs", "4")
    assert done.returncode == 1
    assert "FAILED tokenize@b: corpora.b: got tabs; expected none. Fix it." in done.stdout
    [log] = re.findall(r"log: (\S+)", done.stdout)
    assert "corpora.b: got tabs" in (fresh_project / log).read_text()
    assert (fresh_project / log).read_text().count("Running stage") == 1, (
        "a mistake is not tried again"
    )
    assert (
        "not started, since they need what failed: train@r, predict@r, pack, report" in done.stdout
    )
    assert sorted(path.name for path in (fresh_project / "data").glob("answers*")) == [
        "answers_p",
        "answers_q",
    ]
    (fresh_project / "work.py").write_text(text)
    done = flows.seqline(fresh_project, env, "run")
    assert done.returncode == 0, done.stdout
    assert like(fresh_project) == wanted


def params_with_seeds(*seeds: int) -> str:
    """A params.yaml with a setting that has a run for each seed."""
    common = {"setting": "a", "family": "rnn", "task": "language_model", "corpus": "b"}
    content = {
        "corpora": {"b": {}},
        "settings": {"a": {key: {} for key in params.SETTING_KEYS}},
        "runs": {
            f"a-{number}": {**common, "init_from": "scratch", "seed": seed}
            for number, seed in enumerate(seeds)
        },
    }
    return json.dumps(content)


@pytest.mark.parametrize(
    ("words", "changes", "line"),
    [
        (
            ("trian@p",),
            {},
            (
                "TARGET: got trian@p; expected a stage, or one of download, tokenize, train, "
                "predict, pack,"
            ),
        ),
        (("--jobs", "0"), {}, "--jobs: got 0; expected a whole number from 1 to 1024."),
        (
            (),
            {"flow.yaml": "run: {dvc: patched, time_limit: {}, retries: 2, retry_seconds: 0.1}"},
            "run.time_limit: got an unknown key",
        ),
        ((), {"dvc.yaml": "stages: {a: {do: 1}}"}, "dvc.yaml: got "),
        (
            (),
            {"params.yaml": "compute: {}\nevaluations: {}\n"},
            "evaluations: got an unknown section; expected one of compute, evaluation, ",
        ),
        (
            (),
            {"params.yaml": params_with_seeds(0)},
            "runs.a-0.seed: got 0; expected at least 1.",
        ),
        (
            (),
            {"params.yaml": params_with_seeds(1, 1)},
            "runs.a-0.seed: got 1; expected a seed that runs.a-1 of the same setting a does not ",
        ),
    ],
)
def test_mistake_is_reported_in_one_line_before_any_stage(
    words: tuple[str, ...],
    changes: dict[str, str],
    line: str,
    fresh_project: Path,
    env: dict[str, str],
) -> None:
    for name, text in changes.items():
        (fresh_project / name).write_text(text)
    done = flows.seqline(fresh_project, env, "run", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"seqline: {line}"), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert not (fresh_project / "dvc.lock").exists()


def test_a_wrong_target_is_refused_before_a_server_is_started(
    fresh_project: Path, home: Path
) -> None:
    done = flows.seqline(fresh_project, flows.surroundings(home, None), "run", "trian@p")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("seqline: TARGET: got trian@p; expected a stage, or one of ")
    assert journal.read(fresh_project) == [], "no flow has failed"


def test_a_server_that_is_configured_and_not_there_is_refused_without_its_password(
    fresh_project: Path, home: Path
) -> None:
    done = flows.seqline(
        fresh_project,
        flows.surroundings(home, "http://user:secret@127.0.0.1:9/api?token=secret"),
        "run",
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(
        "seqline: PREFECT_API_URL: got http://127.0.0.1:9/api; expected a Prefect server that"
    )
    assert done.stderr.count("\n") == 1, done.stderr
    assert "secret" not in done.stderr + (fresh_project / ".seqline/flow/history.jsonl").read_text()


def test_after_any_kill_the_next_run_completes_without_orphans(
    fresh_project: Path, env: dict[str, str], wanted: bytes
) -> None:
    sleeping(fresh_project, "model_p", 600)
    killed = []
    for whom in ("flow", "dvc", "command"):
        with flows.started(fresh_project, env, "run", "--jobs", "3") as process:
            work = wait_for(lambda: flows.at_work(fresh_project, "data/model_p"), "the training")[0]
            pid = {"flow": process.pid, "dvc": os.getpgid(work.pid), "command": work.pid}[whom]
            os.kill(pid, signal.SIGKILL)
            said, _ = process.communicate(timeout=HANG_SECONDS)
        killed.append(pid)
        wait_for(lambda: not flows.inhabitants(fresh_project), "all to be gone")
        assert process.returncode == (-signal.SIGKILL if whom == "flow" else 1), said
    sleeping(fresh_project, "model_p", 0.1)
    done = flows.seqline(fresh_project, env, "run", "--jobs", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert like(fresh_project) == wanted
    assert flows.inhabitants(fresh_project) == []
    assert list(process_groups.folder(fresh_project).iterdir()) == []
    assert len(set(killed)) == 3


def test_next_start_ends_orphans_of_flow_and_fork_server(
    fresh_project: Path, env: dict[str, str], wanted: bytes
) -> None:
    sleeping(fresh_project, "", 600)
    with flows.started(fresh_project, env, "run") as process:
        work = wait_for(lambda: flows.at_work(fresh_project), "a stage at work")
        dvc = [psutil.Process(os.getpgid(one.pid)) for one in work]
        os.kill(dvc[0].ppid(), signal.SIGSTOP)
        os.kill(process.pid, signal.SIGKILL)
        os.kill(dvc[0].ppid(), signal.SIGKILL)
    assert all(one.is_running() for one in work), "orphans"
    sleeping(fresh_project, "", 0.1)
    done = flows.seqline(fresh_project, env, "run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not any(
        one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in [*work, *dvc]
    )
    assert like(fresh_project) == wanted


@pytest.mark.parametrize("how", ["ctrl-c", "sigterm", "prefect"])
def test_an_interrupted_run_ends_all_it_started_and_is_cancelled(
    how: str, fresh_project: Path, env: dict[str, str], server: str
) -> None:
    sleeping(fresh_project, "", 600)
    with flows.started(fresh_project, env, "run", "tokenize", "download@a") as process:
        wait_for(lambda: flows.at_work(fresh_project), "a stage at work")
        running = {"name": {"like_": "download@a"}, "state": {"type": {"any_": ["RUNNING"]}}}
        [flow] = wait_for(
            lambda: flows.ask(server, "flow_runs/filter", flow_runs=running), "the flow run"
        )
        if how == "prefect":
            state = {"type": "CANCELLING", "name": "Cancelling"}
            flows.ask(server, f"flow_runs/{flow['id']}/set_state", state=state, force=True)
        else:
            process.send_signal(signal.SIGINT if how == "ctrl-c" else signal.SIGTERM)
        said, _ = process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == (143 if how == "sigterm" else 130), said
    assert "cancelled" in said
    assert "Traceback" not in said
    assert flows.inhabitants(fresh_project) == []
    [after] = flows.ask(server, "flow_runs/filter", flow_runs={"id": {"any_": [flow["id"]]}})
    assert after["state_type"] == "CANCELLED"
    assert not list((fresh_project / "data").glob("raw_*"))


def test_without_a_server_one_is_started_for_the_run_and_its_death_does_not_matter(
    fresh_project: Path, home: Path, wanted: bytes
) -> None:
    # not 3, each of which waits longer
    env = flows.surroundings(home, None) | {"PREFECT_CLIENT_MAX_RETRIES": "1"}
    with flows.started(fresh_project, env, "run", "--jobs", "3") as process:
        wait_for(lambda: flows.at_work(fresh_project), "a stage at work")
        [child] = flows.temporary_servers(process.pid)
        child.kill()
        said, _ = process.communicate(timeout=HANG_SECONDS)
    assert said.startswith("starting a Prefect server for this run"), said
    assert process.returncode == 0, said
    assert "Prefect's server was lost" in said
    assert "Traceback" not in said
    assert like(fresh_project) == wanted


def test_the_death_of_a_standing_server_ends_no_run_and_hinders_no_interrupt(
    fresh_project: Path, pattern: Path, tmp_path: Path, env: dict[str, str], wanted: bytes
) -> None:
    """Two projects are at work when it is killed: one comes to its end, the other is interrupted
    and goes on later."""
    cut = Path(shutil.copytree(pattern, tmp_path / "cut"))
    sleeping(cut, "model_", 600)
    sleeping(fresh_project, "model_", 1.0)
    with contextlib.ExitStack() as held:
        lost = flows.surroundings(tmp_path, held.enter_context(flows.server(tmp_path)))
        lost |= {"PREFECT_CLIENT_MAX_RETRIES": "1"}  # not 3, each of which waits longer
        begun = []
        for root in (cut, fresh_project):  # the one that waits for ever first
            begun.append(held.enter_context(flows.started(root, lost, "run", "--jobs", "3")))
            wait_for(lambda root=root: flows.at_work(root, "data/model_"), "a training")
        cancelled, ends = begun
        flows.kill_server(lost["PREFECT_API_URL"])
        cancelled.send_signal(signal.SIGINT)
        said = {
            process: process.communicate(timeout=HANG_SECONDS)[0] for process in (cancelled, ends)
        }
    assert (ends.returncode, cancelled.returncode) == (0, 130), said
    assert "cancelled" in said[cancelled]
    for process in said:
        assert "Traceback" not in said[process], said[process]
    assert said[ends].count("Prefect's server was lost") == 1, said[ends]
    assert flows.inhabitants(fresh_project) + flows.inhabitants(cut) == []
    assert like(fresh_project) == wanted
    sleeping(cut, "model_", 0.1)
    done = flows.seqline(cut, env, "run")
    assert (done.returncode, done.stderr) == (0, "")
    assert like(cut) == wanted
    assert flows.inhabitants(cut) == []


def test_a_server_of_one_run_ends_with_a_killed_flow(fresh_project: Path, home: Path) -> None:
    with flows.started(fresh_project, flows.surroundings(home, None), "run") as process:
        [server] = wait_for(lambda: flows.temporary_servers(process.pid), "it")
        process.kill()
    wait_for(lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE, "its end")


def alone_with(
    root: Path, address: str, rules: run_settings.Run, **env: str
) -> tuple[run_stage.Result, list[str]]:
    """The stage run without Prefect: how it ended and what it said."""
    said: list[str] = []
    with ForkServer(root, [address]) as workers:
        workers.plan()
        result = run_stage.run(
            workers, address, env, root / "log", rules, threading.Event(), said.append
        )
    return result, said


def test_download_retries_network_errors_but_not_mistakes(fresh_project: Path) -> None:
    seen = (
        "tries = open('tries', 'a+'); tries.write('x'); tries.seek(0); count = len(tries.read())\n"
    )
    gone = (
        "if count < 3: print('seqline: files[0] (f): got host: no connection (refused), 4 "
        "times; expected 9 bytes')\n"
    )
    wrong = (
        "if count > 3: print('seqline: files[0] (f): got host: other bytes; expected 9 bytes')\n"
    )
    text = (fresh_project / "work.py").read_text()
    (fresh_project / "work.py").write_text(
        text.replace("began = ", seen + gone + wrong + "if count != 3: sys.exit(2)\nbegan = ")
    )
    result, said = alone_with(fresh_project, "download@a", RULES)
    assert (result.state, (fresh_project / "tries").read_text()) == ("ran", "xxx")
    assert sum("the next one in" in line for line in said) == 2
    result, _ = alone_with(fresh_project, "download@b", RULES)
    assert (result.state, result.why) == (
        "failed",
        "files[0] (f): got host: other bytes; expected 9 bytes",
    )
    assert (fresh_project / "tries").read_text() == "xxxx"


def test_a_stage_that_meets_another_dvc_s_lock_is_tried_again(fresh_project: Path) -> None:
    rwlock = fresh_project / ".dvc" / "tmp" / "rwlock"
    busy = {
        "write": {str(fresh_project / "data" / "raw_a"): {"pid": os.getpid(), "cmd": "another"}},
        "read": {},
    }
    said: list[str] = []

    def tell(line: str) -> None:
        said.append(line)
        if "the next one in" in line:
            rwlock.write_text("{}")

    with ForkServer(fresh_project, ["download@a"]) as workers:
        workers.plan()
        rwlock.write_text(json.dumps(busy))
        result = run_stage.run(
            workers, "download@a", {}, fresh_project / "log", RULES, threading.Event(), tell
        )
    assert result.state == "ran", said
    assert any("is busy, it is being blocked by" in line for line in said)


def test_a_stage_over_its_time_is_ended_whole(fresh_project: Path) -> None:
    sleeping(fresh_project, "", 600)
    rules = dataclasses.replace(RULES, time_limits={"download": 1})
    result, _ = alone_with(fresh_project, "download@a", rules)
    assert (result.state, result.why) == (
        "failed",
        "download@a timed out after 1 s (run.time_limits.download).",
    )
    assert flows.inhabitants(fresh_project) == []


def test_each_training_gets_a_separate_gpu(
    fresh_project: Path, tmp_path: Path, env: dict[str, str]
) -> None:
    fake = tmp_path / "bin" / "nvidia-smi"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\necho 0\necho 1\n")
    fake.chmod(0o755)
    (fresh_project / "params.yaml").write_text(
        "compute: {device: cuda, slots: 9, processes: 1, workers: 1, cluster: null}\n"
    )
    done = flows.seqline(
        fresh_project,
        env | {"PATH": f"{fake.parent}{os.pathsep}{env['PATH']}"},
        "run",
        "--jobs",
        "6",
    )
    assert done.returncode == 0, done.stdout
    held = []
    for path in (fresh_project / ".seqline" / "logs").rglob("*.log"):
        [(device, began, ended)] = re.findall(r"device (\S+) from (\S+) to (\S+)", path.read_text())
        assert (device in "01") == path.name.startswith(("train", "predict")), path.name
        held.append((device, float(began), float(ended)))
    for device in "01":
        times = sorted((began, ended) for name, began, ended in held if name == device)
        assert times
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(times))


def test_unwritable_lock_order_is_reported(fresh_project: Path) -> None:
    with ForkServer(fresh_project, []) as workers:
        plan, _ = workers.plan()
        (fresh_project / "dvc.lock").mkdir()
        assert not workers.order_lock([], list(plan.needs))
        (fresh_project / "dvc.lock").rmdir()
        assert workers.order_lock([], list(plan.needs))
