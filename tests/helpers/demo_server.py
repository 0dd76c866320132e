"""An ASGI application on a free port of loopback, in a thread."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from pipeline.serving import http_server


@contextmanager
def running(make_app: Any) -> Iterator[int]:
    """Run the server of `make_app(port)`; yield its port."""
    with socket.create_server((http_server.HOST, 0)) as listening:
        port = listening.getsockname()[1]
        server = uvicorn.Server(http_server.configuration(make_app(port), port))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            while not server.started and thread.is_alive():
                time.sleep(0.01)
            yield port
        finally:
            server.should_exit = True
            thread.join()
