"""The Prefect server that a flow reports to: the configured one, or a temporary one for one run.

Only calls to the configured server leave the machine: telemetry is off, and the temporary server
listens on loopback.
"""

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
from pipeline.core.errors import UserError, describe_error, redact, refuse

_START_SECONDS = 180.0
_STOP_SECONDS = 10.0
_QUIET = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    # The terminal shows our display; Prefect's pages show its logs.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_HANDLERS_DEBUG_LEVEL": "CRITICAL",
    # For flows that start Prefect's own temporary server
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_CLIENT_MAX_RETRIES": "3",
    "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",
}
# In the environment of a process with a temporary server, for the processes that it starts
_STARTED = "SEQLINE_PREFECT_STARTED"


def prepare(root: Path) -> None:
    """Configure Prefect, and make sure that a server answers before anything runs.

    UserError if the configured server does not answer. If none is configured, start a temporary
    one, which takes seconds and ends with this process.
    """
    quiet()
    url = configured_url()
    if url is None:
        _start(root)
        return

    problem = _unreachable()
    if problem is not None:
        raise refuse(
            "PREFECT_API_URL",
            redact(url),
            f"a Prefect server that answers ({problem})",
            "Start it (`prefect server start` in another terminal), or unset it: a server is then "
            "started for each run.",
        )


def quiet() -> None:
    """Keep Prefect's logs off the terminal, and turn its telemetry off. Call it before importing
    Prefect."""
    loopback.bypass_proxies()
    os.environ.update({key: value for key, value in _QUIET.items() if key not in os.environ})
    # Without this, `logging` prints a traceback for each log line that a dead server did not take.
    logging.raiseExceptions = False
    # Without a handler, Python prints Prefect's warnings until a flow sets its logging up.
    logger = logging.getLogger("prefect")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())


def require_standing_server() -> None:
    """UserError, with the commands to run, unless a server answers that outlives this process."""
    quiet()
    if is_reachable():
        return

    got = "nothing"
    if url := configured_url():
        reason = _unreachable()
        got = f"{redact(url)}, which does not answer" + (f" ({reason})" if reason else "")
    raise refuse(
        "PREFECT_API_URL",
        got,
        "the address of a Prefect server that runs by itself",
        "Run `prefect server start` in another terminal, and here `export "
        "PREFECT_API_URL=http://127.0.0.1:4200/api`.",
    )


def stop_retrying() -> None:
    """Let Prefect try each further call once only, as the server is lost."""
    from prefect.context import refresh_global_settings_context

    os.environ["PREFECT_CLIENT_MAX_RETRIES"] = "0"
    refresh_global_settings_context()


def configured_url() -> str | None:
    """The server's address in Prefect's settings: PREFECT_API_URL or the active profile."""
    from prefect.settings import get_current_settings

    return get_current_settings().api.url


def is_reachable() -> bool:
    """Return whether a server is configured and answers that is not a temporary one."""
    return configured_url() is not None and _STARTED not in os.environ and _unreachable() is None


def _unreachable() -> str | None:
    """Reason in a line why the configured server cannot be used; None if it can.

    The request is for its version, which needs a login. A health check needs none, and any web
    server may answer a GET.
    """
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
    return f"{type(error).__name__}: {describe_error(error)}"[:200]


@contextmanager
def refuse_server_errors() -> Iterator[None]:
    """Raise UserError for a server that stops answering within the block, or that does not answer
    as a Prefect server does."""
    from pipeline.flow.server_errors import SERVER_CALLS

    try:
        yield
    except SERVER_CALLS as error:
        stop_retrying()
        raise refuse(
            "PREFECT_API_URL",
            redact(str(configured_url())),
            f"a Prefect server that answers ({_reason(error)})",
            "See that the address is a Prefect server's API, such as http://127.0.0.1:4200/api.",
        ) from None


def exposure_warning() -> str:
    """Warning that anybody can use the configured server; "" if it requires a login and refuses
    requests from other sites' pages."""
    import httpx

    url = configured_url()
    foreign = {"Origin": "http://another-site.invalid"}
    try:
        needs_no_login = httpx.get(f"{url}/admin/version", timeout=5.0).status_code == 200
        health = httpx.get(f"{url}/health", headers=foreign, timeout=5.0)
    except (httpx.HTTPError, httpx.InvalidURL):
        return ""  # callers that need an answer report its absence

    risks = []
    if needs_no_login:
        risks.append("needs no login")
    if health.headers.get("access-control-allow-origin") in ("*", foreign["Origin"]):
        risks.append("answers any web page that the user has open (CORS `*`)")
    if not risks:
        return ""
    return (
        f"PREFECT_API_URL: got {redact(str(url))}, which {' and '.join(risks)}; see "
        "docs/deployment.md, One machine"
    )


def _start(root: Path) -> None:
    """Start the temporary server, and end it with this process; UserError if it does not answer."""
    print(
        "starting a Prefect server for this run, without pages (some seconds)",
        flush=True,
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    log_file = root / state_dir.PREFECT_SERVER_LOG
    log_file.parent.mkdir(parents=True, exist_ok=True)
    login = f"seqline:{secrets.token_urlsafe(32)}"
    settings = {
        # In the environment, which only the user's processes can read, unlike the command line.
        "PREFECT_SERVER_API_AUTH_STRING": login,
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"http://127.0.0.1:{port}",
        "PREFECT_UI_ENABLED": "0",
    }
    with log_file.open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "pipeline.flow.temporary_server", str(port)],
            cwd=Path(__file__).parents[2],
            env={**os.environ, **settings},
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C must not end it before the flow has reported its end
        )
    atexit.register(_end, server)
    url = f"http://127.0.0.1:{port}/api"
    deadline = time.monotonic() + _START_SECONDS
    while not loopback.answers(f"{url}/health"):
        if server.poll() is not None or time.monotonic() > deadline:
            raise UserError(
                f"Prefect: got no server within {_START_SECONDS:g} s; expected one. See {log_file}."
            )
        time.sleep(0.1)

    os.environ |= {"PREFECT_API_URL": url, "PREFECT_API_AUTH_STRING": login, _STARTED: "1"}
    from prefect.context import refresh_global_settings_context

    refresh_global_settings_context()


def _end(server: "subprocess.Popen[bytes]") -> None:
    assert server.stdin is not None
    server.stdin.close()  # the temporary server ends when this pipe is closed
    try:
        server.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
