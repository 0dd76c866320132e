"""Requests to this machine itself bypass every proxy, in this process and in all that it starts."""

import http.server
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Mapping
from functools import partial
from hashlib import sha256
from pathlib import Path

import httpx
import pytest
import requests
import stage_runs
import yaml
from listeners import recording_proxy

from pipeline.core import loopback

URLS = ("http://127.0.0.1:4200/api", "http://localhost:5000/health", "http://[::1]:8080/")
ROOT = Path(__file__).resolve().parents[2]
PROXY = "http://127.0.0.1:9"


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment with a proxy for everything and nothing exempt."""
    for name in ("NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, PROXY)
    return monkeypatch


def exempt(url: str) -> set[bool]:
    """Return whether each of our clients bypasses the proxy for this address."""
    with httpx.Client() as client:
        by_httpx = client._transport_for_url(httpx.URL(url)) is client._transport
    host = httpx.URL(url).host
    return {
        bool(urllib.request.proxy_bypass(host)),
        bool(requests.utils.should_bypass_proxies(url, None)),
        by_httpx,
    }


@pytest.mark.parametrize("url", URLS)
def test_every_client_asks_loopback_without_the_proxy(url: str, only: pytest.MonkeyPatch) -> None:
    assert exempt(url) == {False}
    loopback.bypass_proxies()
    assert exempt(url) == {True}
    assert exempt("http://example.org/") == {False}


@pytest.mark.parametrize(
    ("before", "hosts"),
    [
        ({"NO_PROXY": "example.org"}, ["example.org", *loopback.HOSTS]),
        ({"no_proxy": "example.org, localhost"}, ["example.org", "localhost", "127.0.0.1", "::1"]),
        ({"no_proxy": "a.org", "NO_PROXY": "b.org"}, ["a.org", *loopback.HOSTS]),
        ({"no_proxy": "", "NO_PROXY": "b.org"}, ["b.org", *loopback.HOSTS]),
        ({"NO_PROXY": "*"}, ["*"]),
    ],
)
def test_hosts_exempt_before_stay_exempt(
    before: Mapping[str, str], hosts: list[str], only: pytest.MonkeyPatch
) -> None:
    for name, value in before.items():
        only.setenv(name, value)
    for _ in range(2):
        loopback.bypass_proxies()
        assert os.environ["no_proxy"] == os.environ["NO_PROXY"] == ",".join(hosts)


def test_a_server_on_loopback_is_reached_without_the_proxy(only: pytest.MonkeyPatch) -> None:
    with recording_proxy() as (url, requested):
        assert not loopback.answers(f"{url}/")
        assert requested == ["GET / HTTP/1.1"]
        only.setenv("http_proxy", url)
        assert not loopback.answers("http://127.0.0.1:9/")
        assert requested == ["GET / HTTP/1.1"]


def test_the_download_stage_reaches_a_mirror_on_loopback_without_the_proxy(
    tmp_path: Path, only: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "a.txt").write_bytes(b"one line\n")
    text = b"one line\n"
    pinned = {
        "name": "a.txt",
        "sha256": sha256(text).hexdigest(),
        "bytes": len(text),
        "urls": ["http://127.0.0.1:9/a.txt"],
    }
    corpus = yaml.safe_load((ROOT / "params.yaml").read_text())["corpora"]["toy_reviews"] | {
        "source": {"files": [pinned]}
    }
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"corpora": {"mine": corpus}}))
    serve = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "mirror"))
    with (
        recording_proxy() as (proxy, requested),
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), serve) as mirror,
    ):
        threading.Thread(target=mirror.serve_forever, args=(0.05,), daemon=True).start()
        for name in ("HTTP_PROXY", "http_proxy"):
            only.setenv(name, proxy)
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "stages.download",
                "--params",
                "params.yaml",
                "--out",
                "out",
                "mine",
            ],
            cwd=tmp_path,
            env=stage_runs.environment()
            | {"SEQLINE_MIRROR": f"http://127.0.0.1:{mirror.server_address[1]}"},
            capture_output=True,
            text=True,
        )
        mirror.shutdown()
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "a.txt").read_text() == "one line\n"
    assert requested == []
