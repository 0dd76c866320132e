"""DVC's graph run by Prefect: stages that are ready run in parallel. This package alone imports
prefect.

`run.reproduce` is the flow, and `server.prepare` chooses the Prefect server it reports to. Stages
are run by `pipeline.dag`: its `fork_server` imports DVC once, makes the plan, and forks for each
stage; `project_lock` allows one flow at a time.

There is one DAG, `dvc.yaml`, and both `dvc repro` and `seqline run` leave the same `dvc.lock`.
"""

MOST_JOBS = 1024  # stages at a time that a user or a request may ask for
