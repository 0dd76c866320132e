"""`seqline ui`: MLflow's own pages on the project's own store, on loopback."""

import sys
from pathlib import Path

from pipeline import tracking
from pipeline.core.errors import UserError, redact, refuse
from pipeline.serving import server_process
from pipeline.tracking import artifacts, describe, mlflow_store, pages


def ui(root: Path, port: int) -> None:
    """Bring the store up to date, and serve MLflow's pages until Ctrl-C or SIGTERM.

    UserError if the port is in use, or the store is a server with pages of its own."""
    if mlflow_store.is_server(root):
        raise refuse(
            "MLFLOW_TRACKING_URI",
            redact(describe.uri(root)),
            "no server, to serve the project's own store",
            "Open it as it is.",
        )
    server_process.check_port(port)

    # Report an error of the store before the server starts.
    with mlflow_store.open_store(root):
        pass
    try:
        print(tracking.sync(root), file=sys.stderr)
    except UserError as error:
        # The pages show what the store has.
        print(f"seqline sync: {error}", file=sys.stderr)
    address = server_process.address(port)
    with mlflow_store.open_store(root) as client:
        scores = pages.scores_pages(client, address)
    mlflow_store.make_private(root)
    # The address may contain a password, which must not show on a command line.
    uri = describe.uri(root)
    # Without the second, MLflow prints a line about it.
    environment = {"MLFLOW_BACKEND_STORE_URI": uri, "MLFLOW_REGISTRY_STORE_URI": uri}
    server = server_process.start(command(root, port), describe.home(root), environment)
    message = f"MLflow at {pages.experiments_page(address)} (Ctrl-C ends it)"
    lines = ["", "The scores of each experiment:", *(f"  {page}" for page in scores)]
    server_process.run_until_interrupted("ui", server, port, message + "\n".join(lines))


def command(root: Path, port: int) -> list[str]:
    """Command of MLflow's server: one worker, on loopback.

    Every user of the machine can read a command line, so the store's address is not on it. Requests
    must have this machine as their Host, which stops pages that rebind a DNS name. Pages of other
    sites get no response from it."""
    return [
        sys.executable,
        "-m",
        "mlflow",
        "ui",
        "--artifacts-destination",
        artifacts.artifact_folder(root).as_uri(),
        "--host",
        server_process.HOST,
        "--port",
        str(port),
        "--workers",
        "1",
        "--allowed-hosts",
        f"localhost:{port},{server_process.HOST}:{port}",
        "--cors-allowed-origins",
        f"http://localhost:{port},http://{server_process.HOST}:{port}",
        "--uvicorn-opts",
        "--log-level warning",
    ]
