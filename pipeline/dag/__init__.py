"""All that knows DVC: the plan, running a stage, `dvc.lock`, the cache, repairs. It imports neither
prefect nor mlflow."""
