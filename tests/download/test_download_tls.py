"""Downloads over TLS: trust, limits below the encryption, and handshakes that never end."""

import errno
import os
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import hostile_server
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hostile_server import OK, Desk, Server, loose, pinned, redirecting

from pipeline.download.budget import SHIPPED

desk, serve, server = hostile_server.desk, hostile_server.serve, hostile_server.server  # fixtures


@pytest.fixture(scope="module")
def certificate_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    key, name = (
        ec.generate_private_key(ec.SECP256R1()),
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")]),
    )
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(secret + certificate.public_bytes(pem))
    return path


@pytest.fixture
def secure(
    certificate_file: Path, serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> Server:
    """An https server that is trusted."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate_file)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate_file))
    return serve(context=context)


def test_https_is_counted_as_it_is_sent(secure: Server, desk: Desk) -> None:
    data = os.urandom(300_000)
    secure.answer = lambda exchange: exchange.file(data)
    assert desk.get(pinned(secure.url + "/a", data=data)) == data
    secure.answer = lambda exchange: exchange.send(OK + b"\r\n") and exchange.forever(b"x" * 60_000)
    desk.budget = replace(SHIPPED, bytes=1_000_000)
    assert "budget of 1000000 bytes is spent" in desk.refusal(loose(secure.url + "/b"))
    assert 1_000_000 < desk.spent()["bytes"] < 1_100_000


def test_https_without_a_trusted_certificate_is_refused(
    secure: Server, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    assert "no trusted connection" in desk.refusal(pinned(secure.url + "/a"))
    assert secure.requests == []


def test_https_is_for_the_host_that_the_certificate_names(secure: Server, desk: Desk) -> None:
    assert "no trusted connection" in desk.refusal(
        pinned(secure.url.replace("127.0.0.1", "localhost") + "/a")
    )
    assert secure.requests == []


def test_a_redirect_from_https_to_http_is_refused(
    secure: Server, server: Server, desk: Desk
) -> None:
    secure.answer = redirecting(server.url + "/a")
    assert f"redirects from https to {server.url}/a, which is not encrypted" in desk.refusal(
        pinned(secure.url + "/a")
    )
    assert server.connections == 0


def test_a_handshake_that_drips_is_left_when_the_budget_of_seconds_is_spent(
    serve: Callable[..., Server], desk: Desk
) -> None:
    def drip(connection: socket.socket, closing: threading.Event) -> None:
        try:
            connection.sendall(b"\x16\x03\x03\x40\x00")  # a record of 16 KiB
            while not closing.wait(0.02):
                connection.sendall(b"\x02")
        except OSError:
            pass

    server = serve(handshake=drip)
    desk.budget = replace(SHIPPED, seconds=0.2)
    assert "its source's budget of 0.2 seconds is spent" in desk.refusal(pinned(server.url + "/a"))


def test_unaccepted_connection_is_abandoned_after_the_time_budget(desk: Desk) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        fillers = []
        for _ in range(4):  # until the queue is full, and the next is not answered
            filler = socket.socket()
            filler.setblocking(False)
            assert filler.connect_ex(listener.getsockname()) in (0, errno.EINPROGRESS)
            fillers.append(filler)
        desk.budget = replace(SHIPPED, seconds=0.2)
        line = desk.refusal(pinned(f"http://127.0.0.1:{listener.getsockname()[1]}/a"))
        for filler in fillers:
            filler.close()
    assert "its source's budget of 0.2 seconds is spent" in line
