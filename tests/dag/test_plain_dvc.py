"""`run.dvc` of flow.yaml: `plain` and `patched` leave the same `dvc.lock`, cache and outputs."""

import dataclasses
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import flows
import pytest
from source_code import imports, modules

from benchmarks import made_dag
from pipeline.core.errors import UserError
from pipeline.dag import force_stage, process_groups, run_settings, run_stage
from pipeline.dag.dvc_runner import PlainDvc, open_runner
from pipeline.dag.fork_client import ForkServer


@pytest.fixture(scope="module")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_dag.make(tmp_path_factory.mktemp("pattern") / "project", 0.0, 1)


@pytest.fixture
def project(pattern: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pattern, tmp_path / "project"))


def choose(root: Path, dvc: str) -> run_settings.Run:
    """Write the setting into the project's flow.yaml."""
    path = root / "flow.yaml"
    path.write_text(path.read_text().replace("dvc: patched", f"dvc: {dvc}"))
    return run_settings.load(root)


def run_stages(root: Path) -> dict[str, str]:
    """Run the twelve stages, those that are ready at the same time; return the state of each."""
    rules = run_settings.load(root)
    states: dict[str, str] = {}

    def run(address: str) -> None:
        log = root / "logs" / address
        stop = threading.Event()
        states[address] = run_stage.run(dvc, address, {}, log, rules, stop, lambda _: None).state

    with open_runner(root, []) as dvc:
        plan, locked = dvc.plan()
        while ready := [
            address
            for address in plan.stale()
            if address not in states and states.keys() >= set(plan.needs[address]) - plan.fresh
        ]:
            # The last one first: parallel stages end in another order than that of `dvc repro`.
            threads = [threading.Thread(target=run, args=(address,)) for address in ready[::-1]]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert dvc.order_lock(locked, list(plan.needs))
    assert list(process_groups.folder(root).iterdir()) == []
    return states


def results(root: Path) -> dict[str, bytes]:
    """`dvc.lock`, the outputs and the objects of the cache, by path."""
    files = [
        root / "dvc.lock",
        *(root / "data").rglob("*"),
        *(root / ".dvc/cache/files").rglob("*"),
    ]
    return {str(file.relative_to(root)): file.read_bytes() for file in files if file.is_file()}


@pytest.mark.long
def test_both_settings_match_dvc_repro(project: Path, tmp_path: Path) -> None:
    left = {}
    for dvc in ("patched", "plain"):
        root = Path(shutil.copytree(project, tmp_path / dvc))
        choose(root, dvc)
        assert run_stages(root) == dict.fromkeys(PLAN, "ran")
        assert run_stages(root) == {}, "everything is up to date"
        left[dvc] = results(root)
    subprocess.run(
        [sys.executable, "-m", "dvc", "repro", "--quiet"],
        cwd=project,
        env=flows.surroundings(tmp_path, None),
        check=True,
    )
    assert left["plain"] == results(project)
    assert left["patched"] == left["plain"]
    assert len(left["plain"]) == 1 + 2 * made_dag.STAGES + 1, "and data/.gitignore"


@pytest.mark.long
@pytest.mark.parametrize("dvc", ["patched", "plain"])
def test_seqline_run_obeys_the_setting(dvc: str, project: Path, tmp_path: Path) -> None:
    choose(project, dvc)
    (project / "presets").mkdir(exist_ok=True)
    flows.provide_database(tmp_path / "home")
    env = flows.surroundings(tmp_path / "home", None)
    done = flows.seqline(project, env, "run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "12 stages" in done.stdout
    found = results(project)
    subprocess.run(
        [sys.executable, "-m", "dvc", "repro", "--quiet"], cwd=project, env=env, check=True
    )
    assert results(project) == found, "there was nothing left to do"


def test_flows_know_no_runner_but_that_of_the_setting() -> None:
    flow_modules = [name for name in modules() if name.startswith("pipeline.flow")]
    assert flow_modules
    assert not any("pipeline.dag.fork_client" in imports(name) for name in flow_modules)


PLAN = [
    *("download@a", "download@b", "tokenize@a", "tokenize@b", "train@p", "train@q", "train@r"),
    *("predict@p", "predict@q", "predict@r", "pack", "report"),
]


@pytest.mark.long
def test_the_setting_selects_the_runner(project: Path) -> None:
    with open_runner(project, ["download@a"]) as runner:
        assert isinstance(runner, ForkServer)
        expected = runner.plan()
    choose(project, "plain")
    with open_runner(project, ["download@a"]) as runner:
        assert isinstance(runner, PlainDvc)
        assert runner.plan() == runner.plan() == expected


def test_plain_dvc_runs_a_stage_and_forces_it(project: Path) -> None:
    rules = choose(project, "plain")
    log = project / "logs" / "download@a"
    stop = threading.Event()
    with open_runner(project, ["download@a"]) as dvc:
        dvc.plan()  # as a flow does: a reader that is killed may leave DVC's own lock file empty
        for state in ("ran", "cached"):
            result = run_stage.run(dvc, "download@a", {}, log, rules, stop, lambda _: None)
            assert (result.state, result.why) == (state, "")
    (project / "data" / "raw_a").unlink()
    (project / "data" / "raw_a").write_text("other")
    force_stage.force(project, "download@a")
    assert (project / "data" / "raw_a").read_text() != "other"
    failing = dataclasses.replace(rules, time_limits={"download": 1})
    (project / "work.py").write_text("import time\ntime.sleep(600)\n")
    with open_runner(project, ["download@b"]) as dvc:
        dvc.plan()
        result = run_stage.run(dvc, "download@b", {}, log, failing, stop, lambda _: None)
    assert result.why == "download@b timed out after 1 s (run.time_limits.download)."
    assert flows.inhabitants(project) == []


@pytest.mark.long
def test_plain_dvc_refuses_an_unknown_target_and_a_dag_that_dvc_cannot_read(project: Path) -> None:
    choose(project, "plain")
    with open_runner(project, ["trian@p"]) as dvc, pytest.raises(UserError, match="TARGET: got"):
        dvc.plan()
    (project / "dvc.yaml").write_text("stages: {a: {do: 1}}")
    with open_runner(project, []) as dvc, pytest.raises(UserError, match=r"^dvc\.yaml: got "):
        dvc.plan()


def test_another_value_of_the_setting_is_refused(project: Path) -> None:
    with pytest.raises(UserError, match=r"^run\.dvc: got fast; expected one of patched, plain\."):
        choose(project, "fast")
