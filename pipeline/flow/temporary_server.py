"""`python -m pipeline.flow.temporary_server PORT < PIPE`: Prefect's server for one run, which ends
when the pipe is closed.

Prefect's own temporary server outlives a flow that is killed; this one does not.
"""

import argparse
import contextlib
import os
import sys
from functools import partial

from pipeline.serving.tied_process import end_group_with


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.flow.temporary_server", description=__doc__
    )
    parser.add_argument("port", type=int)
    port = parser.parse_args().port
    end_group_with(sys.stdin.fileno())
    _keep_private()
    import uvicorn
    from prefect.server.api.server import create_app

    make_app = partial(create_app, ephemeral=True, final=True)
    uvicorn.run(
        make_app, factory=True, host="127.0.0.1", port=port, log_level="error", lifespan="on"
    )


def _keep_private() -> None:
    """Make Prefect's folder and database, with all flows and parameters, private to the user."""
    from prefect.settings import get_current_settings

    os.umask(0o077)
    home = get_current_settings().home
    home.mkdir(parents=True, exist_ok=True)
    for path in (home, *home.glob("*.db*")):
        with contextlib.suppress(OSError):  # another user's file, whose permissions that user sets
            path.chmod(path.stat().st_mode & 0o700)


if __name__ == "__main__":
    main()
