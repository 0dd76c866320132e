"""The code that MLflow keeps with a version and runs to load it; all else is the project's present
code."""

from mlflow.models import set_model

from pipeline.tracking.served import Served

set_model(Served())
