"""The MLflow model of a version: its weights come from DVC's cache by their md5, so that no later
training changes it."""

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel, PythonModel
from mlflow.version import VERSION as MLFLOW_VERSION

from pipeline.core import params
from pipeline.core.errors import UserError, refuse
from pipeline.dag import cache

__all__ = ["MLFLOW_VERSION", "Served", "load_model", "load_version"]

ROOT = "SEQLINE_ROOT"
_CHECKS_NAMES = "_seqline_checks_names"  # attribute of the function that replaces MLflow's


class Served(PythonModel):  # type: ignore[misc]
    """Model with texts in the first column as input, and rows of the task's INTERFACE as output.

    Every value is checked here, for `mlflow.pyfunc.load_model` and MLflow's own server too. These
    two would drop params with unknown names before: `_refuse_unknown_params` checks the names."""

    def load_context(self, context: Any) -> None:
        """Load the model that the version refers to; UserError if the project or an output is
        missing."""
        _refuse_unknown_params()
        self._task = str(context.model_config["task"])
        self._predict = load_model(context.model_config)

    def check_names(self, params: Mapping[str, Any]) -> None:
        """Raise MlflowException for a name that the task's params do not have."""
        from pipeline.predictor import check_names

        try:
            check_names(self._task, params)
        except UserError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Return the predictions; MlflowException for a text that the model cannot take.

        A server turns this exception into status 400."""
        texts = list(model_input.iloc[:, 0]) if model_input.shape[1] else []
        try:
            return pd.DataFrame(self._predict(texts, params or {}))
        except UserError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None

    def answer(
        self, texts: Sequence[Any], params: Mapping[str, Any], seconds: float
    ) -> list[dict[str, Any]]:
        """As `predict`, for a server that parses requests itself.

        UserError for an invalid text or parameter; TimeoutError soon after `seconds`."""
        from pipeline.inference import OutOfTime, time_limit

        try:
            with time_limit(seconds):
                return self._predict(texts, params)
        except OutOfTime as error:
            raise TimeoutError from error


def _refuse_unknown_params() -> None:
    """Let loaded versions of this project refuse params with unknown names.

    `PyFuncModel.predict` logs and drops them before it calls the model, so that a misspelled name
    would silently have no effect. Other models of the process keep this behavior."""
    predict = PyFuncModel.predict
    if hasattr(predict, _CHECKS_NAMES):
        return

    @functools.wraps(predict)
    def checked(self: Any, data: Any, params: Any = None) -> Any:
        wrapped = getattr(self._model_impl, "python_model", None)
        if isinstance(wrapped, Served) and isinstance(params, Mapping):
            wrapped.check_names(params)
        return predict(self, data, params)

    setattr(checked, _CHECKS_NAMES, True)
    PyFuncModel.predict = checked


def load_version(
    uri: str, seconds: float
) -> Callable[[Sequence[Any], Mapping[str, Any]], list[dict[str, Any]]]:
    """Load the version at `uri`; return the function that computes the rows of a request.

    Params that a request leaves out have the defaults of the version's signature. The function
    raises as `Served.answer` does, after `seconds` too."""
    model = mlflow.pyfunc.load_model(uri)
    schema = model.metadata.get_params_schema()
    defaults = {param.name: param.default for param in schema.params} if schema else {}
    python_model = model.unwrap_python_model()
    if not isinstance(python_model, Served):
        raise refuse(
            "model", uri, "a version that this project registered", "See `seqline champions`."
        )
    return lambda texts, params: python_model.answer(texts, defaults | dict(params), seconds)


def load_model(
    reference: Mapping[str, Any],
) -> Callable[[Sequence[str], Mapping[str, Any]], list[dict[str, Any]]]:
    """Load the model of a version by the reference that `package.save_version` wrote.

    Returns a function from texts and params to rows."""
    # Late: this imports torch, which MLflow does not need to inspect the class.
    from pipeline.predictions import TrainedRun
    from pipeline.predictor import load_predictor

    # Both folders are checked out of DVC's cache once, and shared by all versions with their md5.
    root = _project(str(reference["root"]))
    model, vocab = (cache.served_folder(root, str(reference[kind])) for kind in ("model", "vocab"))
    device = params.compute(root / "params.yaml").device
    run = TrainedRun(model, vocab, reference["search"], device)
    return load_predictor(str(reference["task"]), run)


def _project(registered: str) -> Path:
    """Return the project's present folder: SEQLINE_ROOT, or that of the registration."""
    root = Path(os.environ.get(ROOT) or registered)
    if not (root / ".dvc").is_dir():
        raise refuse(
            ROOT,
            str(root),
            "the project that the version's weights are in",
            f"Set {ROOT} to its present folder.",
        )
    return root
