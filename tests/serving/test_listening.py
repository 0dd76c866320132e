"""Every command listens on loopback alone, and asks no proxy for what is there."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import flows
import pytest
import retrain_project as small
from listeners import Listeners, recording_proxy
from retrain_project import retrainable
from tracking_project import unused_port
from waiting import HANG_SECONDS, wait_for

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def proxied() -> Iterator[tuple[dict[str, str], list[str]]]:
    """Variables that send everything to a proxy which lets nothing pass, and the requests to it."""
    with recording_proxy() as (proxy, requests):
        yield (
            {
                "HTTP_PROXY": proxy,
                "http_proxy": proxy,
                "ALL_PROXY": proxy,
                "NO_PROXY": "",
                "no_proxy": "",
            },
            requests,
        )


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny project with a training."""
    return small.create(tmp_path_factory.mktemp("listening") / "project")


def watched(root: Path, env: dict[str, str], *words: str) -> Listeners:
    """Run the command from start to end; what it and all that it started listened on."""
    with flows.started(root, env, *words) as process:
        with Listeners(process.pid) as listeners:
            output, _ = process.communicate(timeout=4 * HANG_SECONDS)
        assert process.returncode == 0, output
    return listeners


def test_retraining_with_temporary_server_listens_on_loopback(
    root: Path, proxied: tuple[dict[str, str], list[str]], tmp_path: Path
) -> None:
    """DVC's stages run in it, as in `make repro`, and a champion is promoted, which the test of
    `serve` needs."""
    variables, requests = proxied
    flows.provide_database(tmp_path)
    env = small.author(flows.surroundings(tmp_path, None) | variables)
    del env["SEQLINE_TRACKING"]
    listeners = watched(root, env, "retrain")
    assert any(
        "pipeline.flow.temporary_server" in listener.command for listener in listeners.found
    ), "the server was seen"
    assert listeners.beyond_loopback == []
    assert requests == []


def test_plain_dvc_listens_nowhere(root: Path, proxied: tuple[dict[str, str], list[str]]) -> None:
    """The command of `make repro`."""
    variables, requests = proxied
    with (
        subprocess.Popen(
            [sys.executable, "-m", "dvc", "repro", "--force", "--no-run-cache"],
            cwd=root,
            env=flows.surroundings(root, None) | variables,
            stdout=subprocess.DEVNULL,
        ) as process,
        Listeners(process.pid) as listeners,
    ):
        assert process.wait(4 * HANG_SECONDS) == 0
    assert listeners.found == set()
    assert requests == []


def test_a_run_and_a_schedule_with_a_standing_server_listen_on_loopback(
    proxied: tuple[dict[str, str], list[str]], tmp_path: Path
) -> None:
    variables, requests = proxied
    root = retrainable(tmp_path / "project")
    login = "seqline:of-the-test"
    closed = {
        "PREFECT_SERVER_API_AUTH_STRING": login,
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": "http://127.0.0.1:4200",
    }
    with flows.server(tmp_path, **closed) as url:
        env = small.author(flows.surroundings(tmp_path, url) | variables) | {
            "PREFECT_API_AUTH_STRING": login
        }
        with Listeners(flows.server_process(url).pid) as of_server:
            run = watched(root, env, "run")
            with (
                flows.started(root, env, "schedule", "--interval", "1s") as process,
                Listeners(process.pid) as scheduled,
            ):
                wait_for(
                    lambda: (root / ".seqline/flow/history.jsonl").read_text().count("retrain") > 1,
                    "a run",
                )
                process.send_signal(signal.SIGTERM)
                assert process.wait(HANG_SECONDS) == 0
        assert {listener.port for listener in of_server.found} == {
            int(url.split(":")[2].split("/")[0])
        }
    for listeners in (of_server, run, scheduled):
        assert listeners.beyond_loopback == []
    assert requests == []


@pytest.mark.parametrize("words", [("ui",), ("serve", small.NAME)])
def test_a_server_of_mlflow_s_listens_on_loopback(
    words: tuple[str, ...], root: Path, proxied: tuple[dict[str, str], list[str]]
) -> None:
    variables, requests = proxied
    port = unused_port()
    env = flows.surroundings(root, None) | variables
    with (
        flows.started(root, env, *words, "--port", str(port)) as process,
        Listeners(process.pid) as listeners,
    ):
        assert process.stdout
        line = ""
        while "Ctrl-C ends it" not in line:
            line = process.stdout.readline()
            assert line, "it ended"
        listeners.wait_for(
            lambda listeners: any(listener.port == port for listener in listeners), HANG_SECONDS
        )
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=HANG_SECONDS)
    assert listeners.beyond_loopback == []
    assert requests == []
