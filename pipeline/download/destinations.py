"""Addresses that a download may connect to, and where redirects may lead.

A server must not be able to make this machine send requests to its own services, or to those of its
network (server-side request forgery). Addresses are checked when the connection is made: a name
cannot resolve to one address for the check and to another for the connection (DNS rebinding)."""

import ipaddress
import socket
import urllib.parse
from enum import IntEnum

from pipeline.core.errors import printable, redact
from pipeline.download.failures import DownloadError

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

# Metadata services of cloud providers, which return credentials to any request from inside. Those
# at link-local addresses need no entry.
_METADATA = {
    ipaddress.ip_address(address)
    for address in ("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254")
}
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class Zone(IntEnum):
    """Nearness of an address; a redirect may not lead to a nearer one than its server's."""

    PUBLIC = 0
    PRIVATE = 1  # a local network, and anything else outside the public internet
    LOOPBACK = 2  # this machine
    FORBIDDEN = 3  # link-local, multicast, and cloud metadata


_ZONE_NAMES = {Zone.PRIVATE: "a private network", Zone.LOOPBACK: "this machine"}


def zone(address: str) -> Zone:
    """Zone of a numeric address, with or without an IPv6 scope."""
    ip = _embedded(ipaddress.ip_address(address.partition("%")[0]))
    if ip.is_link_local or ip.is_multicast or ip in _METADATA:
        return Zone.FORBIDDEN
    if ip.is_loopback or ip.is_unspecified:  # systems take 0.0.0.0 for this machine
        return Zone.LOOPBACK
    return Zone.PUBLIC if ip.is_global else Zone.PRIVATE


def zone_of_host(host: str) -> Zone:
    """Zone of the host in an address: PUBLIC for a name, which is checked once it is resolved."""
    try:
        return zone(host)
    except ValueError:
        pass
    if f".{host.rstrip('.').lower()}".endswith(".localhost"):
        return Zone.LOOPBACK
    try:
        # Short forms such as 127.1 and 2130706433, which systems resolve to 127.0.0.1.
        return zone(socket.inet_ntoa(socket.inet_aton(host)))
    except (OSError, ValueError):
        return Zone.PUBLIC


def check_zone(address: str, nearest: Zone) -> Zone:
    """Zone of a numeric address; `DownloadError` if it is nearer than `nearest`."""
    actual = zone(address)
    if actual is Zone.FORBIDDEN:
        raise DownloadError(
            f"leads to {address}, a link-local, multicast or metadata address, which is never "
            "contacted"
        )
    if actual > nearest:
        raise DownloadError(f"redirects to {address}, an address of {_ZONE_NAMES[actual]}")
    return actual


def redirect_target(address: str, location: str, nearest: Zone) -> str:
    """Resolve the redirect of `address` by the header `Location`; `DownloadError` if it must not
    be followed.

    `location` is the header as Python reads it: each byte a character of Latin-1.
    """
    try:
        target = urllib.parse.urljoin(address, location.encode("latin-1").decode("utf-8").strip())
        parts = urllib.parse.urlsplit(target)
        port = parts.port  # raises ValueError if it is not a number
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
            f"redirects from https to {redact(target)[:100]}, which is not encrypted"
        )
    if "@" in parts.netloc:
        raise DownloadError("redirects to an address with a password")

    actual = zone_of_host(parts.hostname)
    if actual > nearest:
        place = _ZONE_NAMES.get(actual, "link-local, multicast or metadata")
        raise DownloadError(f"redirects to {parts.hostname[:100]}, an address of {place}")
    return target


def _embedded(ip: IpAddress) -> IpAddress:
    """The IPv4 address that is embedded in an IPv6 address, else the address itself."""
    if isinstance(ip, ipaddress.IPv4Address):
        return ip
    if ip in _NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or ip
