"""`python -m pipeline.flow.ephemeral PORT < LINE`: Prefect's server for one run, gone as soon as the line's other end is.

Prefect's own temporary server outlives a flow that is killed; this one does not.
"""

import argparse
import os
import signal
import sys
import threading
import time

_LEAVE_SECONDS = 5.0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m pipeline.flow.ephemeral", description=__doc__)
    parser.add_argument("port", type=int)
    port = parser.parse_args().port
    threading.Thread(target=_leave_with, daemon=True).start()
    import uvicorn

    make = "prefect.server.api.server:create_app"
    uvicorn.run(make, factory=True, host="127.0.0.1", port=port, log_level="error", lifespan="on")


def _leave_with() -> None:
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_LEAVE_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    main()
