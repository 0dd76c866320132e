"""`seqline demo`: a page on loopback that asks trained runs.

The page is `demo.html` with `demo.css` and `demo.js`. It loads nothing else, as its
Content-Security-Policy says, and shows texts as text only. `http_server.py` checks the requests and
limits their number; a run is loaded with the first request for it."""

import json
import socket
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from pipeline.core import config
from pipeline.core.errors import UserError, refuse
from pipeline.core.request_text import checked_text, json_kind
from pipeline.inference import OutOfTime, time_limit
from pipeline.predictions import TrainedRun
from pipeline.serving import demo_answers, http_server, server_process
from pipeline.serving.http_server import Page

CONCURRENT = 1  # requests computed at a time; each uses the threads of its run
QUEUED = 100  # requests that wait for it
_LARGEST_SEED = 2**31 - 1
_PARAMS = ("panel", "seed")

_HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)
_FILES = {
    "/": ("demo.html", "text/html; charset=utf-8"),
    "/demo.css": ("demo.css", "text/css; charset=utf-8"),
    "/demo.js": ("demo.js", "text/javascript; charset=utf-8"),
}


@dataclass(frozen=True, slots=True)
class DemoRun:
    """A trained run on the page: its name, the same with how it was chosen, its setting and family,
    its score in words, its task, and its files."""

    name: str
    described: str
    setting: str
    family: str
    score: str
    task: str
    files: TrainedRun


@dataclass(frozen=True, slots=True)
class Panel:
    """A command with the runs of one corpus that answer to it, best first. `pair`: its texts have
    two parts."""

    command: str
    corpus: str
    examples: tuple[str, ...]
    pair: bool
    runs: tuple[DemoRun, ...]

    @property
    def id(self) -> str:
        """Name in requests."""
        return f"{self.command}:{self.corpus}"


class Demo:
    """Answers to requests of the page."""

    def __init__(self, panels: Sequence[Panel]) -> None:
        self._panels = {panel.id: panel for panel in panels}
        self._asks: dict[tuple[str, str], demo_answers.Ask] = {}
        self._loading = threading.Lock()

    def pages(self) -> dict[str, Page]:
        """Responses to GET by path: the page, its files, and the panels."""
        folder = Path(__file__).parent
        pages = {
            path: Page((folder / name).read_bytes(), kind, _HEADERS)
            for path, (name, kind) in _FILES.items()
        }
        panels = [_described(panel) for panel in self._panels.values()]
        pages["/panels"] = Page(json.dumps(panels).encode(), headers=_HEADERS)
        return pages

    def answer(self, texts: Sequence[Any], params: Mapping[str, Any]) -> list[dict[str, Any]]:
        """A row per run of the panel `params["panel"]`, for one text; a row has `error` if the run
        cannot answer. UserError for an invalid request, TimeoutError for too much work."""
        panel, seed = self._checked(params)
        if len(texts) != 1:
            raise refuse("inputs", f"{len(texts)} texts", "one text")
        text = checked_text(texts[0], "text")
        if not text.strip():
            raise refuse("text", "an empty text", "a text with words")
        try:
            with time_limit(http_server.WORK_SECONDS):
                return [self._row(panel, run, text, seed) for run in panel.runs]
        except OutOfTime as error:
            raise TimeoutError from error

    def _row(self, panel: Panel, run: DemoRun, text: str, seed: int) -> dict[str, Any]:
        row = {
            "setting": run.setting,
            "family": run.family,
            "run": run.described,
            "score": run.score,
        }
        try:
            return row | self._ask(panel, run)(text, seed)
        except OutOfTime:
            raise
        except UserError as error:
            return row | {"error": str(error)}

    def _ask(self, panel: Panel, run: DemoRun) -> demo_answers.Ask:
        """The run's function, loaded once."""
        with self._loading:
            key = (panel.id, run.name)
            if key not in self._asks:
                self._asks[key] = demo_answers.open_run(panel.command, run.task, run.files)
            return self._asks[key]

    def _checked(self, params: Mapping[str, Any]) -> tuple[Panel, int]:
        for name in params:
            if name not in _PARAMS:
                todo = config.nearest(name, _PARAMS) or "Remove it."
                raise refuse("params", f"the unknown name {name[:60]!r}", "panel or seed", todo)
        wanted, seed = params.get("panel"), params.get("seed", 0)
        panel = self._panels.get(wanted) if isinstance(wanted, str) else None
        if panel is None:
            got = wanted[:60] if isinstance(wanted, str) else json_kind(wanted)
            raise refuse("panel", got, f"one of {', '.join(self._panels)}", "Reload the page.")
        if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed <= _LARGEST_SEED:
            got = str(seed)[:60] if isinstance(seed, int) else json_kind(seed)
            raise refuse("seed", got, f"a whole number from 0 to {_LARGEST_SEED}")
        return panel, seed


def _described(panel: Panel) -> dict[str, Any]:
    return {
        "id": panel.id,
        "command": panel.command,
        "corpus": panel.corpus,
        "examples": panel.examples,
        "pair": panel.pair,
        "runs": [run.setting for run in panel.runs],
    }


def app(panels: Sequence[Panel], port: int, allowed: Sequence[str] = ()) -> http_server.App:
    """The ASGI application of the page."""
    demo = Demo(panels)
    pages = http_server.STATE_PAGES | demo.pages()
    hosts = http_server.hosts(port, allowed)
    return http_server.App(demo.answer, hosts, pages, CONCURRENT, QUEUED)


def serve(panels: Sequence[Panel], port: int, allowed: Sequence[str]) -> None:
    """Serve the page until Ctrl-C or SIGTERM; UserError if the port is in use."""
    server_process.check_port(port)
    server = uvicorn.Server(http_server.configuration(app(panels, port, allowed), port))
    with socket.create_server((server_process.HOST, port)) as listening:
        print(f"seqline: demo at {server_process.address(port)} (Ctrl-C ends it)", flush=True)
        try:
            server.run(sockets=[listening])
        except KeyboardInterrupt:
            print()
