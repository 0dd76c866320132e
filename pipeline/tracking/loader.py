"""The code that MLflow stores with a version and runs to load it.

All other code is the project's present code."""

from mlflow.models import set_model

from pipeline.tracking.served import Served

set_model(Served())
