"""A served retraining works in its own folder, whatever a request says, and servers of ours are
closed to strangers."""

import stat
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flows
import pytest
import retrain_project as small
from retrain_project import retrainable
from waiting import wait_for

from pipeline.core.errors import UserError
from pipeline.flow import events, journal, project_folder, retrain

ORIGIN = "http://evil.invalid"


# --- which folder


def test_the_working_directory_is_the_folder_only_if_it_is_a_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"a folder without dvc\.yaml; expected the project"):
        project_folder.folder()
    for name in ("dvc.yaml", "params.yaml", "flow.yaml"):
        (tmp_path / name).touch()
    assert project_folder.folder() == tmp_path
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "__init__.py").write_text("print('other code')\n")
    with pytest.raises(UserError, match="a project with other code than this process runs"):
        project_folder.folder()


def test_the_folder_of_a_command_takes_precedence_over_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    with project_folder.working_in(tmp_path):
        assert project_folder.folder() == tmp_path.resolve()
    with pytest.raises(UserError):
        project_folder.folder()


def test_no_parameter_of_the_flow_is_a_path() -> None:
    assert set(retrain.retrain.parameters.properties) == {"jobs", "because"}


@pytest.mark.parametrize(
    ("reason", "line"),
    [
        ("reviews changed", "reviews changed"),
        ("a\nb\x1b[31m", "a b\\x1b[31m"),
        ("x" * 10_000, "x" * 197 + "..."),
    ],
)
def test_the_reason_of_a_request_is_one_printable_line(reason: str, line: str) -> None:
    assert retrain._one_line(reason) == line


# --- a served schedule and a stranger's request


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prefect")


@pytest.fixture(scope="module")
def url(home: Path) -> Iterator[str]:
    with flows.server(home) as url:
        yield url


def trap(root: Path) -> Path:
    """A project whose stages leave the file `pwned` there."""
    retrainable(root)
    (root / "work.py").write_text("open('pwned', 'w').close()\n")
    return root


@pytest.mark.long
def test_a_request_cannot_name_the_folder_of_a_served_retraining(
    url: str, home: Path, tmp_path: Path
) -> None:
    root, theirs = retrainable(tmp_path / "mine"), trap(tmp_path / "theirs")
    env = small.author(flows.surroundings(home, url))
    with flows.started(root, env, "schedule", "--interval", "1d") as process:
        assert process.stdout
        warning = process.stdout.readline()
        assert f"got {url}, which needs no login and answers any web page" in warning
        wait_for(lambda: (root / ".seqline/flow/schedule.json").exists(), "the schedule")
        named = {"name": {"any_": [events.deployment_name(root)]}}
        [deployment] = wait_for(
            lambda: flows.ask(url, "deployments/filter", deployments=named), "its deployment"
        )
        ask = f"deployments/{deployment['id']}/create_flow_run"
        for enforced in (True, False):
            parameters = {"root": str(theirs), "because": "x"}
            patient(url, ask, parameters=parameters, enforce_parameter_schema=enforced)
        patient(url, ask, parameters={"jobs": -1, "because": "many"})
        mine = patient(url, ask, parameters={"because": "a request\x1b[31m"})["id"]
        wait_for(
            lambda: flows.get(url, f"flow_runs/{mine}")["state_type"] == "COMPLETED",
            "the honest run",
        )
        wait_for(
            lambda: all(
                run["state_type"] in ("COMPLETED", "FAILED", "CRASHED") for run in due(url)
            ),
            "the others' end",
        )
    assert not (theirs / "pwned").exists()
    assert not (theirs / ".seqline").exists()
    assert [record.because for record in journal.read(root)] == ["a request\\x1b[31m"]
    assert (root / "data" / "report").exists()


def patient(url: str, path: str, **body: Any) -> Any:
    """As `flows.ask`, again while the server's database is busy; {} for a request that it
    refuses."""

    def response() -> Any:
        try:
            return [flows.ask(url, path, **body)]
        except urllib.error.HTTPError as error:
            return None if error.code == 503 else [{}]

    return wait_for(response, "the server to take a request")[0]


def due(url: str) -> list[dict[str, Any]]:
    runs = flows.ask(
        url,
        "flow_runs/filter",
        flow_runs={"expected_start_time": {"before_": "2100-01-01T00:00:00Z"}},
    )
    return [run for run in runs if not run["auto_scheduled"]]


# --- servers of ours

_SHOW = """
import os, sys, urllib.request, urllib.error
from pathlib import Path
from pipeline.flow import prefect_server as server
server.prepare(Path(sys.argv[1]))
url = os.environ["PREFECT_API_URL"]
def ask(path, **headers):
    try:
        with urllib.request.urlopen(urllib.request.Request(url + path, headers=headers)) as answer:
            return answer.status, answer.headers.get("access-control-allow-origin")
    except urllib.error.HTTPError as error:
        return error.code, error.headers.get("access-control-allow-origin")
print(ask("/admin/version", Origin="http://evil.invalid"))
print(ask("/health", Origin="http://evil.invalid"))
print(ask("/flows/filter"))
print(server._unreachable(), repr(server.exposure_warning()))
import psutil
login = os.environ["PREFECT_API_AUTH_STRING"]
words = [word for one in psutil.Process().children(True) for word in one.cmdline()]
print([word for word in words if login.split(":")[1] in word])
print(login)
"""


@pytest.mark.long
def test_temporary_server_requires_login_and_hides_its_database(tmp_path: Path) -> None:
    home = tmp_path / "prefect"
    home.mkdir(mode=0o755)
    (home / "prefect.db").touch(mode=0o644)
    env = flows.surroundings(home, None)
    done = subprocess.run(
        [sys.executable, "-c", _SHOW, str(tmp_path)],
        cwd=flows.ROOT,
        env=env,
        capture_output=True,
        text=True,
        umask=0o022,
    )
    assert done.returncode == 0, done.stderr
    announcement, version, health, flow, ours, words, login = done.stdout.splitlines()
    assert (version, health) == ("(401, None)", "(200, None)")
    assert flow.startswith("(401, ")
    assert ours == "None ''"
    assert set(words) <= set("[], ")
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode) for path in (home, *home.glob("prefect.db*"))
    }
    assert modes.pop("prefect") == 0o700
    assert set(modes.values()) == {0o600}
    log = (tmp_path / ".seqline" / "flow" / "server.log").read_text()
    assert login.split(":")[1] not in log + announcement


@pytest.mark.long
def test_a_server_as_documented_gives_no_warning_and_requires_its_login(tmp_path: Path) -> None:
    login = "seqline:of-the-test"
    closed = {
        "PREFECT_SERVER_API_AUTH_STRING": login,
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": "http://127.0.0.1:4200",
    }
    root = retrainable(tmp_path / "project")
    ask = (
        "from pipeline.flow import prefect_server as server; server.quiet(); "
        "print(repr(server.exposure_warning()), server._unreachable())"
    )
    with flows.server(tmp_path, **closed) as url:
        env = flows.surroundings(tmp_path, url)
        with_login = env | {"PREFECT_API_AUTH_STRING": login}
        checked = subprocess.run(
            [sys.executable, "-c", ask], env=with_login, capture_output=True, text=True, check=True
        )
        assert checked.stdout == "'' None\n"
        done = flows.seqline(root, small.author(with_login), "retrain")
        assert (done.returncode, done.stderr) == (0, "")
        stranger = flows.seqline(root, small.author(env), "retrain")
        assert stranger.returncode == 2
        assert "its login is not PREFECT_API_AUTH_STRING" in stranger.stderr
