"""DVC's own graph run by Prefect: stages that are ready run beside one another. This package alone imports prefect.

- `run.reproduce`: the flow; `alone.alone`: one flow at a time; `server.prepare`: which Prefect server it reports to.
- `warm`: the one process that has imported DVC; it says what there is to do, and every stage is a fork of it.

There is one DAG, `dvc.yaml`, and both `dvc repro` and `seqline run` leave the same `dvc.lock`.
"""

MOST_JOBS = 1024  # stages at a time that a user or a request may ask for
