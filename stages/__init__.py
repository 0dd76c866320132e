"""The nodes of the DAG in `dvc.yaml`: thin commands over `pipeline/`, run as `python -m
stages.NAME`."""

import sys

from pipeline.core.errors import uncaught

# A stage imports its libraries before it can catch an error; an import can run out of memory or
# of file descriptors too.
sys.excepthook = uncaught
