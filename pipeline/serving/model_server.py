"""`seqline serve`: the HTTP server of one registered version, as a process on loopback."""

import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.serving import example_request, server_process
from pipeline.tracking import describe, registry


def serve(root: Path, version: str, port: int, hosts: Sequence[str]) -> None:
    """Serve a version until Ctrl-C or SIGTERM; UserError if there is none, or the port is in use.

    `hosts`: names and ports by which a proxy or a tunnel calls the server, besides those of
    loopback."""
    # Report a wrong version or port before the server starts.
    uri = registry.uri(root, version)
    server_process.check_port(port)

    server_command = [
        sys.executable,
        "-m",
        "pipeline.serving.http_server",
        uri,
        "--port",
        str(port),
        *(word for host in hosts for word in ("--allow-host", host)),
    ]
    environment = {
        "MLFLOW_TRACKING_URI": describe.uri(root),
        "SEQLINE_ROOT": str(describe.home(root)),
    }
    server = server_process.start(server_command, describe.home(root), environment)
    url = f"{server_process.address(port)}/invocations"
    example = example_request.curl(root, version, url)
    message = f"{uri} at {url} (Ctrl-C ends it). To ask it from another terminal:\n\n{example}\n"
    server_process.run_until_interrupted("serve", server, port, message)
