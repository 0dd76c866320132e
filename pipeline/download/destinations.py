"""Addresses that a download may connect to: how far a redirect may lead, and which addresses are
never asked.

A server that is asked for a corpus must not make this machine ask its own services, or its
network's, on its behalf (server-side request forgery). Addresses are judged when the connection is
made, so that a name cannot mean one address to the check and another to the connection."""

import ipaddress
import socket
import urllib.parse
from enum import IntEnum

from pipeline.core.errors import printable, shown
from pipeline.download.failures import DownloadError

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

# Services of cloud providers that hand credentials to whoever asks from inside; those at link-local
# addresses need no entry.
_METADATA = {
    ipaddress.ip_address(address)
    for address in ("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254")
}
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class Zone(IntEnum):
    """Nearness of an address; a redirect may not lead nearer than the server that sent it."""

    PUBLIC = 0
    PRIVATE = 1  # a local network, and anything else outside the public internet
    LOOPBACK = 2  # this machine
    FORBIDDEN = 3  # link-local, multicast, and cloud metadata


_PLACES = {Zone.PRIVATE: "a private network", Zone.LOOPBACK: "this machine"}


def zone(address: str) -> Zone:
    """The zone of a numeric address, with or without an IPv6 scope."""
    ip = _embedded(ipaddress.ip_address(address.partition("%")[0]))
    if ip.is_link_local or ip.is_multicast or ip in _METADATA:
        return Zone.FORBIDDEN
    if ip.is_loopback or ip.is_unspecified:  # systems take 0.0.0.0 for this machine
        return Zone.LOOPBACK
    return Zone.PUBLIC if ip.is_global else Zone.PRIVATE


def zone_of_host(host: str) -> Zone:
    """The zone of a host as an address writes it: PUBLIC for a name, since only its lookup can
    tell."""
    try:
        return zone(host)
    except ValueError:
        pass
    if f".{host.rstrip('.').lower()}".endswith(".localhost"):
        return Zone.LOOPBACK
    try:
        # 127.1 and 2130706433, which systems take for 127.0.0.1
        return zone(socket.inet_ntoa(socket.inet_aton(host)))
    except (OSError, ValueError):
        return Zone.PUBLIC


def check_zone(address: str, nearest: Zone) -> Zone:
    """The zone of a numeric address; `DownloadError` if it is nearer than a connection may go."""
    actual = zone(address)
    if actual is Zone.FORBIDDEN:
        raise DownloadError(
            f"leads to {address}, a link-local, multicast or metadata address, which is never asked"
        )
    if actual > nearest:
        raise DownloadError(f"redirects to {address}, an address of {_PLACES[actual]}")
    return actual


def redirect_target(address: str, location: str, nearest: Zone) -> str:
    """Resolve the redirect of `address` by the header `Location`; `DownloadError` if it must not
    be followed.

    `location` is the header as Python reads it: each byte a character of Latin-1.
    """
    try:
        text = location.encode("latin-1").decode("utf-8")
        target = urllib.parse.urljoin(address, text.strip())
        parts = urllib.parse.urlsplit(target)
        port = parts.port  # raises for what is no number
    except ValueError:
        raise DownloadError("redirects to what is no address") from None

    if parts.scheme not in ("http", "https"):
        raise DownloadError(
            f"redirects to an address that begins with {printable(parts.scheme[:20])}:, which "
            "is not followed"
        )
    if not parts.hostname or not target.isprintable() or port == 0:
        raise DownloadError("redirects to what is no address")
    if parts.scheme == "http" and urllib.parse.urlsplit(address).scheme == "https":
        raise DownloadError(
            f"redirects from https to {shown(target)[:100]}, which is not encrypted"
        )
    if "@" in parts.netloc:
        raise DownloadError("redirects to an address with a password")

    actual = zone_of_host(parts.hostname)
    if actual > nearest:
        place = _PLACES.get(actual, "link-local, multicast or metadata")
        raise DownloadError(f"redirects to {parts.hostname[:100]}, an address of {place}")
    return target


def _embedded(ip: IpAddress) -> IpAddress:
    """The IPv4 address that an IPv6 address stands for, if it does."""
    if isinstance(ip, ipaddress.IPv4Address):
        return ip
    if ip in _NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or ip
