"""Redirects and names that lead nearer than they may, or nowhere: refused in one line."""

import re
import socket
from collections.abc import Callable

import hostile_server
import pytest
from hostile_server import TEXT, Desk, Server, pinned, redirecting

from pipeline.download import destinations
from pipeline.download.destinations import Zone, zone, zone_of_host

desk, serve, server = hostile_server.desk, hostile_server.serve, hostile_server.server  # fixtures


@pytest.mark.parametrize(
    ("address", "where"),
    [
        ("8.8.8.8", Zone.PUBLIC),
        ("2606:4700::1", Zone.PUBLIC),
        ("10.1.2.3", Zone.PRIVATE),
        ("192.168.1.1", Zone.PRIVATE),
        ("172.16.0.1", Zone.PRIVATE),
        ("100.64.0.1", Zone.PRIVATE),
        ("fd00::1", Zone.PRIVATE),
        ("::ffff:10.0.0.1", Zone.PRIVATE),
        ("127.0.0.1", Zone.LOOPBACK),
        ("127.9.9.9", Zone.LOOPBACK),
        ("0.0.0.0", Zone.LOOPBACK),
        ("::1", Zone.LOOPBACK),
        ("::", Zone.LOOPBACK),
        ("::ffff:127.0.0.1", Zone.LOOPBACK),
        ("64:ff9b::7f00:1", Zone.LOOPBACK),
        ("2002:7f00:1::", Zone.LOOPBACK),
        ("169.254.169.254", Zone.FORBIDDEN),
        ("fe80::1", Zone.FORBIDDEN),
        ("fe80::1%eth0", Zone.FORBIDDEN),
        ("::ffff:169.254.169.254", Zone.FORBIDDEN),
        ("fd00:ec2::254", Zone.FORBIDDEN),
        ("100.100.100.200", Zone.FORBIDDEN),
        ("224.0.0.1", Zone.FORBIDDEN),
    ],
)
def test_zones_of_addresses(address: str, where: Zone) -> None:
    assert zone(address) is where
    assert zone_of_host(address) is where


def test_zones_of_hosts_as_addresses_write_them() -> None:
    for host in (
        "localhost",
        "LOCALHOST.",
        "a.localhost",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
    ):
        assert zone_of_host(host) is Zone.LOOPBACK
    for host in ("example.org", "notlocalhost", "127.0.0.1.example.org"):
        assert zone_of_host(host) is Zone.PUBLIC
    assert zone_of_host("2852039166") is Zone.FORBIDDEN


@pytest.fixture
def public(monkeypatch: pytest.MonkeyPatch) -> str:
    """An address of this machine that passes for one of the public internet."""
    original = destinations.zone
    monkeypatch.setattr(
        destinations,
        "zone",
        lambda address: Zone.PUBLIC if address == "127.0.0.2" else original(address),
    )
    return "127.0.0.2"


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "[fe80::1]", "2852039166", "[::ffff:169.254.169.254]", "224.0.0.1"]
)
def test_a_redirect_to_a_link_local_address_is_refused(
    host: str, server: Server, desk: Desk
) -> None:
    server.answer = redirecting(f"http://{host}/latest/meta-data/")
    line = desk.refusal(pinned(server.url + "/a"))
    assert "/a: redirects to " in line
    assert "link-local, multicast or metadata" in line


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "127.1", "10.0.0.1", "192.168.0.1", "[fd00::1]"],
)
def test_a_public_server_may_not_redirect_to_this_machine_or_network(
    host: str, public: str, serve: Callable[..., Server], server: Server, desk: Desk
) -> None:
    outside = serve(host=public)
    outside.answer = redirecting(f"http://{host}:{server.listener.getsockname()[1]}/a")
    line = desk.refusal(pinned(outside.url + "/a"))
    assert re.search("redirects to .*, an address of (this machine|a private network)", line)
    assert server.connections == 0


def test_a_public_server_may_not_redirect_to_this_machine_by_a_name(
    public: str,
    serve: Callable[..., Server],
    server: Server,
    desk: Desk,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outside = serve(host=public)
    answer_names(
        monkeypatch, {"rebound.example": ["127.0.0.1"], "both.example": ["127.0.0.1", public]}
    )
    outside.answer = redirecting(f"http://rebound.example:{server.listener.getsockname()[1]}/a")
    assert "redirects to 127.0.0.1, an address of this machine" in desk.refusal(
        pinned(outside.url + "/a")
    )
    port = outside.listener.getsockname()[1]
    outside.answer = lambda exchange: (
        exchange.file()
        if exchange.path == "/b"
        else redirecting(f"http://both.example:{port}/b")(exchange)
    )
    assert desk.get(pinned(outside.url + "/a")) == TEXT
    assert server.connections == 0


def test_a_redirect_may_lead_on_from_where_it_was_and_outward(
    public: str, serve: Callable[..., Server], server: Server, desk: Desk
) -> None:
    """A mirror on one's own machine or network, named in params.yaml, may redirect within it, and
    to the internet."""
    second, outside = serve(), serve(host=public)
    server.answer = redirecting(second.url + "/a")
    assert desk.get(pinned(server.url + "/a")) == TEXT
    server.answer = redirecting(outside.url + "/a")
    assert desk.get(pinned(server.url + "/b")) == TEXT
    outside.answer = redirecting(second.url + "/a")  # but from there not back
    assert "an address of this machine" in desk.refusal(pinned(server.url + "/c"))


def answer_names(monkeypatch: pytest.MonkeyPatch, names: dict[str, list[str]]) -> None:
    """Let these names have these addresses."""
    original = socket.getaddrinfo

    def lookup(host: str, *rest: object, **keys: object) -> list[object]:
        return [
            entry for name in names.get(host, [host]) for entry in original(name, *rest, **keys)
        ]  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)


@pytest.mark.parametrize("address", ["169.254.169.254", "fe80::1", "fd00:ec2::254"])
def test_hostname_of_a_link_local_address_is_refused(
    address: str, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_names(monkeypatch, {"corpus.example": [address]})
    assert f"leads to {address}, a link-local, multicast or metadata address" in desk.refusal(
        pinned("http://corpus.example/a")
    )
    assert "a link-local, multicast or metadata address" in desk.refusal(
        pinned("http://169.254.169.254/a")
    )


@pytest.mark.parametrize("scheme", ["file", "ftp", "gopher", "data", "javascript"])
def test_a_redirect_to_another_scheme_is_refused(scheme: str, server: Server, desk: Desk) -> None:
    server.answer = redirecting(f"{scheme}:///etc/passwd")
    assert f"redirects to an address that begins with {scheme}:" in desk.refusal(
        pinned(server.url + "/a")
    )


def test_behind_a_proxy_addresses_are_judged_as_far_as_they_are_written(
    server: Server, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("http_proxy", server.url)
    assert desk.get(pinned("http://corpus.example/a")) == TEXT
    assert server.requests[0].path == "http://corpus.example/a"
    for host in ("127.0.0.1", "localhost", "10.0.0.1", "169.254.169.254"):
        server.answer = redirecting(f"http://{host}/a")
        assert "redirects to " in desk.refusal(pinned("http://corpus.example/b"))
    assert "metadata" in desk.refusal(pinned("http://169.254.169.254/c"))
    server.answer = lambda exchange: exchange.forever(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)
    assert "none of the file's" in desk.refusal(pinned("http://corpus.example/d"))
