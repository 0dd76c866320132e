"""Requests to this machine itself. They bypass every proxy: a proxy's loopback is another machine.

Company networks and clusters set HTTP_PROXY for everybody, often without NO_PROXY.
"""

import os

HOSTS = ("127.0.0.1", "localhost", "::1")


def bypass_proxies() -> None:
    """Exempt loopback from HTTP_PROXY and similar variables, for this process and its children."""
    # `no_proxy` takes precedence where both are set (urllib, requests, httpx and websockets agree).
    exempt = os.environ.get("no_proxy") or os.environ.get("NO_PROXY", "")
    hosts = [host.strip() for host in exempt.split(",") if host.strip()]
    if "*" not in hosts:
        hosts += [host for host in HOSTS if host not in hosts]
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(hosts)


def answers(url: str, timeout: float = 2.0) -> bool:
    """Return whether a GET of `url`, which is on loopback, is answered with success; never through
    a proxy."""
    import http.client
    import urllib.request

    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=timeout):
            return True
    except (OSError, http.client.HTTPException):
        # No server, an error status, or a server of another protocol.
        return False
