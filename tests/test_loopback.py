"""Requests to this machine itself bypass every proxy, in this process and in all that it starts."""

import os
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest
import requests
from listening import recording_proxy

from pipeline import loopback

URLS = ("http://127.0.0.1:4200/api", "http://localhost:5000/health", "http://[::1]:8080/")
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
    """Whether each client of ours leaves the proxy out for this address."""
    with httpx.Client() as client:
        by_httpx = client._transport_for_url(httpx.URL(url)) is client._transport
    host = httpx.URL(url).host
    return {bool(urllib.request.proxy_bypass(host)), bool(requests.utils.should_bypass_proxies(url, None)), by_httpx}


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
def test_what_was_exempt_before_stays_exempt(before: Mapping[str, str], hosts: list[str], only: pytest.MonkeyPatch) -> None:
    for name, value in before.items():
        only.setenv(name, value)
    for _ in range(2):
        loopback.bypass_proxies()
        assert os.environ["no_proxy"] == os.environ["NO_PROXY"] == ",".join(hosts)


def test_a_server_on_loopback_is_seen_past_the_proxy(only: pytest.MonkeyPatch) -> None:
    with recording_proxy() as (url, asked):
        assert not loopback.answers(f"{url}/")
        assert asked == ["GET / HTTP/1.1"]
        only.setenv("http_proxy", url)
        assert not loopback.answers("http://127.0.0.1:9/")
        assert asked == ["GET / HTTP/1.1"]


def test_a_command_and_what_it_starts_have_loopback_exempt(tmp_path: Path, only: pytest.MonkeyPatch) -> None:
    show = "import os, pipeline.errors as e; e.exit_with(lambda: os.execlp('sh', 'sh', '-c', 'echo $NO_PROXY $no_proxy'))"
    done = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [",".join(loopback.HOSTS)] * 2
