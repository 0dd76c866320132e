"""The Prefect server that a flow reports to: a configured one, or one started for this process
alone.

Nothing here leaves the machine but the calls to the configured server: telemetry is off and a
server of ours is on loopback."""

import atexit
import logging
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.core import loopback, state_dir
from pipeline.core.errors import UserError, refuse, shown, told

_START_SECONDS, _LEAVE_SECONDS = 180.0, 10.0
_QUIET = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    # the terminal is ours; its pages show all
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_HANDLERS_DEBUG_LEVEL": "CRITICAL",
    # where Prefect starts one all the same
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_CLIENT_MAX_RETRIES": "3",
    "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",
}
_STANDING = (
    "`prefect server start` in another terminal, and `prefect config set "
    "PREFECT_API_URL=http://127.0.0.1:4200/api`"
)


def prepare(root: Path) -> None:
    """Make Prefect quiet, and see to it that a server answers before anything is run.

    UserError if one is configured and does not answer. If none is, one is started for this process,
    which takes seconds, and ends with it."""
    quiet()
    url = configured_url()
    if url is None:
        _start(root)
    elif (error := _unreachable()) is not None:
        todo = (
            f"Start it ({_STANDING.split(',')[0]}), or unset it: a server is then started "
            "for each run."
        )
        raise refuse(
            "PREFECT_API_URL", shown(url), f"a Prefect server that answers ({error})", todo
        )


def quiet() -> None:
    """Keep Prefect off the terminal and from calling home; to be called before it is imported."""
    loopback.bypass_proxies()
    os.environ.update({key: value for key, value in _QUIET.items() if key not in os.environ})
    # else each line of a log that a dead server does not take is a complaint
    logging.raiseExceptions = False
    # else, until there is a flow, Python prints its warnings
    if not (prefect := logging.getLogger("prefect")).handlers:
        prefect.addHandler(logging.NullHandler())


def require_standing_server() -> None:
    """UserError, with the commands to run, unless a server answers that goes on when this process
    ends."""
    quiet()
    if not is_reachable():
        url = configured_url()
        reason = _unreachable() if url else None
        address = (
            f"{shown(url)}, which does not answer{f' ({reason})' if reason else ''}"
            if url
            else "nothing"
        )
        todo = (
            "Run `prefect server start` in another terminal, and here `export "
            "PREFECT_API_URL=http://127.0.0.1:4200/api`."
        )
        raise refuse(
            "PREFECT_API_URL", address, "the address of a Prefect server that runs by itself", todo
        )


def stop_retrying() -> None:
    """The server is lost: what Prefect still wants to tell it is tried once and not again."""
    from prefect.context import refresh_global_settings_context

    os.environ["PREFECT_CLIENT_MAX_RETRIES"] = "0"
    refresh_global_settings_context()


def configured_url() -> str | None:
    """The server's address as Prefect knows it: by PREFECT_API_URL or its profile."""
    from prefect.settings import get_current_settings

    return get_current_settings().api.url


def is_reachable() -> bool:
    """Return whether a server is configured and answers: one that stands by itself, not one of a
    single run."""
    return configured_url() is not None and _STARTED not in os.environ and _unreachable() is None


_STARTED = "SEQLINE_PREFECT_STARTED"  # in the environment of a process with a server of its own


def _unreachable() -> str | None:
    """Reason why the configured server cannot be used, in a line; None if it can.

    The request is for its version: its health needs no login, and any web server might answer a GET
    of some page."""
    from prefect.client.orchestration import get_client

    from pipeline.flow.server_errors import SERVER_ERRORS

    try:
        with get_client(sync_client=True) as client:
            version = client.api_version()
    except SERVER_ERRORS as error:
        return _reason(error)
    return None if isinstance(version, str) else "its version is no text"


def _reason(error: BaseException) -> str:
    """Reason why a call to the server failed, in a line."""
    import httpx

    from pipeline.flow.server_errors import NOT_PREFECT

    if isinstance(error, httpx.HTTPStatusError):
        code = error.response.status_code
        return f"status {code}{': its login is not PREFECT_API_AUTH_STRING' if code == 401 else ''}"
    if isinstance(error, NOT_PREFECT):
        return "it does not answer as a Prefect server does"
    return f"{type(error).__name__}: {told(error)}"[:200]


@contextmanager
def refuse_server_errors() -> Iterator[None]:
    """Within the block, a server that stops answering, or answers what no Prefect server would, is
    a UserError."""
    from pipeline.flow.server_errors import SERVER_CALLS

    try:
        yield
    except SERVER_CALLS as error:
        stop_retrying()
        url = shown(str(configured_url()))
        todo = "See that the address is a Prefect server's API, such as http://127.0.0.1:4200/api."
        raise refuse(
            "PREFECT_API_URL", url, f"a Prefect server that answers ({_reason(error)})", todo
        ) from None


def exposure_warning() -> str:
    """Line on what the configured server lets anybody do; "" if it requires a login and refuses
    other sites' pages."""
    import httpx

    url = configured_url()
    foreign = {"Origin": "http://another-site.invalid"}
    try:
        open_to_all = httpx.get(f"{url}/admin/version", timeout=5.0).status_code == 200
        origins = httpx.get(f"{url}/health", headers=foreign, timeout=5.0).headers.get(
            "access-control-allow-origin"
        )
    except (httpx.HTTPError, httpx.InvalidURL):
        return ""  # callers that need an answer report its absence

    risks = []
    if open_to_all:
        risks.append("needs no login")
    if origins in ("*", foreign["Origin"]):
        risks.append("answers any web page that the user has open (CORS `*`)")
    if not risks:
        return ""
    return (
        f"PREFECT_API_URL: got {shown(str(url))}, which {' and '.join(risks)}; see "
        "docs/deployment.md, One machine"
    )


def _start(root: Path) -> None:
    print(
        (
            "seqline: no Prefect server is configured: one is started, which takes seconds. To "
            f"keep one: {_STANDING}"
        ),
        flush=True,
    )
    port = _free_port()
    log_file = root / state_dir.PREFECT_SERVER_LOG
    log_file.parent.mkdir(parents=True, exist_ok=True)
    login = f"seqline:{secrets.token_urlsafe(32)}"
    ours = {
        # in the environment, which only the user's processes can read
        "PREFECT_SERVER_API_AUTH_STRING": login,
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"http://127.0.0.1:{port}",
        "PREFECT_UI_ENABLED": "0",
    }
    with log_file.open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "pipeline.flow.temporary_server", str(port)],
            cwd=Path(__file__).parents[2],
            env={**os.environ, **ours},
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    atexit.register(_end, server)
    url = f"http://127.0.0.1:{port}/api"
    if not _answers(server, f"{url}/health"):
        raise UserError(
            f"Prefect: got no server within {_START_SECONDS:g} s; expected one. See {log_file}."
        )
    os.environ |= {"PREFECT_API_URL": url, "PREFECT_API_AUTH_STRING": login, _STARTED: "1"}
    from prefect.context import refresh_global_settings_context

    refresh_global_settings_context()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(server: "subprocess.Popen[bytes]", url: str) -> bool:
    until = time.monotonic() + _START_SECONDS
    while server.poll() is None and time.monotonic() < until:
        if loopback.answers(url):
            return True
        time.sleep(0.1)
    return False


def _end(server: "subprocess.Popen[bytes]") -> None:
    assert server.stdin is not None
    server.stdin.close()
    try:
        server.wait(_LEAVE_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
