"""The nodes of the DAG in `dvc.yaml`: thin commands over `pipeline/`, run as `python -m stages.NAME`."""
