"""seqline in Python: trained runs as functions, scores and predictions as tables.

    import seqline

    translator = seqline.load("transformer")
    translator.translate(["where do the birds sing ?"])

    seqline.runs()                       # what params.yaml has, and what is trained
    seqline.metrics()                    # every score, as a pandas DataFrame
    seqline.predictions("transformer")   # what the run answered on the test set

Each function takes `root`, the folder of the project, as a text or a Path. Without it, the project
is the one that the working directory lies in; else the one that seqline is installed from.

A mistake raises UserError (a ValueError), one line that says what to do. One text where a list of
texts is expected raises TypeError. torch, pandas and MLflow are imported when they are needed."""

from seqline._library import FOLDER as _FOLDER  # noqa: F401 - before all that imports it
from seqline.errors import UserError
from seqline.model import Attention, Hypothesis, Label, Model, Neighbour, load
from seqline.tables import history, metrics, predictions, runs

__all__ = [
    "Attention",
    "Hypothesis",
    "Label",
    "Model",
    "Neighbour",
    "UserError",
    "history",
    "load",
    "metrics",
    "predictions",
    "runs",
]
