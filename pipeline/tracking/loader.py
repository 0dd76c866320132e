"""What MLflow keeps as a version's code and runs to load it: so little that all else is the project's own, present code."""

from mlflow.models import set_model

from pipeline.tracking.served import Served

set_model(Served())
