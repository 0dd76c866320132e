"""A configured Prefect server that is none: one line and status 2 from every command that would ask
it."""

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import flows
import pytest
import retrain_project as small

pytestmark = pytest.mark.long
HTML = b"<!doctype html><title>Welcome to nginx!</title>"
ANSWERS: dict[str, tuple[int, str, bytes] | None] = {
    "HTML": (200, "text/html", HTML),
    "an object": (200, "application/json", b'{"detail": "\\u001b[31mno"}'),
    "a list": (200, "application/json", b"[1, 2]"),
    "null": (200, "application/json", b"null"),
    "half of JSON": (200, "application/json", b'{"id": '),
    "no text": (200, "application/json", b"\xff\xfe\x00"),
    "500": (500, "text/html", HTML),
    "401": (401, "application/json", b'{"exception_message": "Unauthorized"}'),
    "404": (404, "text/html", HTML),
    "a redirect to itself": (307, "/api/admin/version", b""),
    "a redirect to nowhere": (307, "http://[", b""),
    "nothing": None,
}


@contextmanager
def answering(
    answer: tuple[int, str, bytes] | None, as_prefect: tuple[str, ...] = ()
) -> Iterator[str]:
    """A server's API address; paths that end with one of `as_prefect` are answered as Prefect
    would."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            responses = {"/health": b"true", "/admin/version": b'"3.8.8"', "/flows/filter": b"[]"}
            for path in as_prefect:
                if self.path.endswith(path):
                    self.say(200, "application/json", responses[path])
                    return
            if answer is None:
                self.close_connection = True
                return
            self.say(*answer)

        do_POST = do_PATCH = do_GET

        def say(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Location" if status == 307 else "Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/api"
        server.shutdown()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of two corpora-less stages, with a source that has changed since."""
    return small.retrainable(tmp_path_factory.mktemp("strange") / "project")


def impatient(home: Path, url: str) -> dict[str, str]:
    """The environment of a `seqline` that asks the server at `url` once for each thing."""
    return flows.surroundings(home, url) | {"PREFECT_CLIENT_MAX_RETRIES": "0"}


def one_line(root: Path, home: Path, url: str, *words: str) -> str:
    done = flows.seqline(root, impatient(home, url), *words)
    assert done.returncode == 2, done.stdout + done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("seqline: PREFECT_API_URL: got http://127.0.0.1:")
    assert "\x1b" not in done.stderr
    return lines[0]


@pytest.mark.parametrize("kind", ANSWERS)
def test_a_run_names_the_address_of_a_server_that_is_not_prefect(
    kind: str, root: Path, tmp_path: Path
) -> None:
    with answering(ANSWERS[kind]) as url:
        line = one_line(root, tmp_path, url, "run")
    assert ("PREFECT_API_AUTH_STRING" in line) == (kind == "401")


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        *((("run",), kind) for kind in ("HTML", "a list", "500", "nothing")),
        (("retrain",), "HTML"),
        (("schedule", "--interval", "1h"), "nothing"),
    ],
)
def test_a_server_that_starts_well_and_then_answers_nonsense_gives_one_line(
    words: tuple[str, ...], kind: str, root: Path, tmp_path: Path
) -> None:
    with answering(ANSWERS[kind], as_prefect=("/health", "/admin/version", "/flows/filter")) as url:
        done = flows.seqline(root, impatient(tmp_path, url), *words)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("seqline: warning: ")]
    assert (done.returncode, len(lines)) == (2, 1), done.stdout + done.stderr
    assert lines[0].startswith("seqline: PREFECT_API_URL: got http://127.0.0.1:")
    assert "Traceback" not in done.stdout


@pytest.mark.parametrize(
    ("words", "kind"), [(("retrain",), "HTML"), (("schedule", "--interval", "1h"), "nothing")]
)
def test_a_retraining_and_a_schedule_refuse_a_server_that_is_not_prefect(
    words: tuple[str, ...], kind: str, root: Path, tmp_path: Path
) -> None:
    with answering(ANSWERS[kind]) as url:
        one_line(root, tmp_path, url, *words)


@pytest.mark.parametrize("kind", ["HTML", "a list", "nothing"])
def test_the_status_without_a_prefect_server_uses_local_records(
    kind: str, root: Path, tmp_path: Path
) -> None:
    for as_prefect in ((), ("/health", "/admin/version", "/flows/filter")):
        with answering(ANSWERS[kind], as_prefect=as_prefect) as url:
            done = flows.seqline(root, impatient(tmp_path, url), "status")
        assert done.stderr == ""
        [server] = [line for line in done.stdout.splitlines() if line.startswith("server")]
        assert "does not answer" in server or "could not be read" in server
