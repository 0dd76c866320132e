"""The image and compose.yaml, as far as that can be tested without Docker: the commands of its
services run here, on a real Postgres."""

import json
import os
import pwd
import re
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT

from pipeline import cli

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
PASSWORD = "secret"
ONE = ("-d", "postgres", "-v", "ON_ERROR_STOP=1", "-c")  # psql: one statement, or fail
START_SECONDS = 300.0


def test_services_publish_ports_on_loopback_only() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_every_variable_of_compose_has_a_default_or_a_line_in_the_example() -> None:
    text = (ROOT / "compose.yaml").read_text(encoding="utf-8")
    required = set(re.findall(r"\$\{(\w+)(?::\?[^}]*)?\}", text))
    example = set(
        re.findall(r"^(\w+)=$", (ROOT / ".env.example").read_text(encoding="utf-8"), re.MULTILINE)
    )
    assert required == example == {"POSTGRES_PASSWORD", "PREFECT_LOGIN"}


def test_secrets_are_not_in_a_command_line() -> None:
    words = [word for service in SERVICES.values() for word in service.get("command", [])]
    assert words
    assert not any("${" in word for word in words)


def test_dependencies_and_volumes_are_defined() -> None:
    for service in SERVICES.values():
        assert set(service.get("depends_on", {})) <= set(SERVICES)
        for volume in service.get("volumes", []):
            assert volume.startswith(".:") or volume.partition(":")[0] in COMPOSE["volumes"]


def test_the_schedule_s_command_is_valid() -> None:
    program, *words = SERVICES["pipeline"]["command"]
    assert program == "seqline"
    arguments = cli.make_parser().parse_args(words)
    assert (arguments.command, arguments.cron) == ("schedule", "0 3 * * *")


def test_image_matches_bootstrap_and_dockerignore_matches_gitignore() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    for name in re.findall(r"^COPY (.*) \./$", text, re.MULTILINE)[0].split():
        assert (ROOT / name).is_file()
    assert '-c constraints.txt -e ".[postgres]"' in text
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert {".venv", ".seqline", "data/*", "mlflow.db*"} <= set(ignored)


def test_the_devcontainer_installs_the_development_tools() -> None:
    content = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text(encoding="utf-8"))
    assert content["postCreateCommand"] == "python3 bootstrap.py --dev"


# --- the servers, on Postgres


@contextmanager
def postgres() -> Iterator[int]:
    """A Postgres server on loopback with the user and the databases of compose.yaml; its port."""
    # Postgres refuses to run as root, and another user cannot enter pytest's folders.
    user = "postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
    folder = Path(tempfile.mkdtemp(prefix="postgres"))
    if os.getuid() == 0:
        shutil.chown(folder, user)
    (folder.parent / f"{folder.name}.password").write_text(PASSWORD)
    password = folder.parent / f"{folder.name}.password"
    port = unused_port()
    switch = {"user": user} if os.getuid() == 0 else {}

    def run(*words: str) -> None:
        done = subprocess.run(words, capture_output=True, text=True, cwd=folder, **switch)
        assert done.returncode == 0, done.stderr + done.stdout

    data = str(folder / "data")
    try:
        run("initdb", "-D", data, "-U", "seqline", "--auth=scram-sha-256", f"--pwfile={password}")
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder}"
        # pg_ctl's child keeps the pipes of its parent open, so they are not waited for.
        subprocess.run(
            ["pg_ctl", "-D", data, "-o", options, "-w", "-l", str(folder / "log"), "start"],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            **switch,
        )
        try:
            for statement in (
                f"CREATE DATABASE {SERVICES['postgres']['environment']['POSTGRES_DB']}",
                COMPOSE["configs"]["create_prefect_database"]["content"],
            ):
                subprocess.run(
                    ["psql", "-h", "127.0.0.1", "-p", str(port), "-U", "seqline", *ONE, statement],
                    check=True,
                    env=os.environ | {"PGPASSWORD": PASSWORD},
                    capture_output=True,
                )
            yield port
        finally:
            run("pg_ctl", "-D", data, "-m", "immediate", "stop")
    finally:
        password.unlink()
        shutil.rmtree(folder, ignore_errors=True)


def unused_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def service(name: str, database: int, folder: Path) -> Iterator[str]:
    """Run the service's own command, on a free port; its address."""
    port, settings = unused_port(), SERVICES[name]
    own = settings["ports"][0].rpartition(":")[2]
    words = [
        word.replace(f"port={own}", f"port={port}")
        .replace(f":{own}", f":{port}")
        .replace("0.0.0.0", "127.0.0.1")
        .replace("/artifacts", str(folder / "artifacts"))
        for word in settings["command"]
    ]
    environment = {
        key: text.replace("${POSTGRES_PASSWORD}", PASSWORD)
        .replace("@postgres/", f"@127.0.0.1:{database}/")
        .replace(f":{own}", f":{port}")
        .replace("${PREFECT_LOGIN:?set it in .env}", f"seqline:{PASSWORD}")
        for key, text in settings["environment"].items()
    }
    log = folder / f"{name}.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            words,
            cwd=folder,
            env=os.environ | environment | {"HOME": str(folder)},
            stdout=file,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
    try:
        check = settings["healthcheck"]["test"][3].replace(f":{own}", f":{port}")
        until = time.monotonic() + START_SECONDS
        while subprocess.run([*settings["healthcheck"]["test"][1:3], check]).returncode:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(1)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, 9)
        process.wait()


@pytest.mark.long
@pytest.mark.skipif(shutil.which("initdb") is None, reason="no Postgres is installed")
def test_mlflow_and_prefect_start_on_postgres_by_the_commands_of_compose(tmp_path: Path) -> None:
    with postgres() as database:
        with service("mlflow", database, tmp_path) as address:
            record = (
                "import mlflow; mlflow.log_metric('loss', 1.5); mlflow.log_text('text', 'a.txt');"
                "print(mlflow.last_active_run().info.artifact_uri)"
            )
            done = subprocess.run(
                ["python", "-c", record],
                env=os.environ | {"MLFLOW_TRACKING_URI": address},
                cwd=tmp_path,
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, done.stderr
            assert [path.read_text() for path in (tmp_path / "artifacts").rglob("a.txt")] == [
                "text"
            ]
        with (
            service("prefect", database, tmp_path) as address,
            pytest.raises(urllib.error.HTTPError, match="401"),
        ):
            urllib.request.urlopen(f"{address}/api/flows/count", data=b"{}")
