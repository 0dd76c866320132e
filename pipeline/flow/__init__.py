"""DVC's graph run by Prefect, independent stages in parallel. Only this package imports prefect.

`prefect_flow.reproduce` is the flow, and `prefect_server.prepare` chooses the server that it
reports to. `pipeline.dag` runs the stages: its `fork_server` imports DVC once, makes the plan, and
forks for each stage; its `project_lock` allows one flow at a time.

There is one DAG, `dvc.yaml`: `dvc repro` and `seqline run` leave the same `dvc.lock`.
"""

MOST_JOBS = 1024  # largest number of parallel stages that a user or a request may choose
