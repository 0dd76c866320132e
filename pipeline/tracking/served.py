"""A version at work in MLflow's hands: its weights come out of DVC by their md5, so that no later
training changes it."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PythonModel

from pipeline.core import params
from pipeline.core.errors import UserError, refuse
from pipeline.dag import cache

ROOT = "SEQLINE_ROOT"


class Served(PythonModel):  # type: ignore[misc]
    """Texts in the first column in, rows of the task's kind out: `package.INTERFACES`.

    Every value is checked here, for `mlflow.pyfunc.load_model` and MLflow's own server too. Only
    params with unknown names are not: those two log and drop them before."""

    def load_context(self, context: Any) -> None:
        """Lay out what the version refers to, and open it; UserError if the project or an output of
        it is nowhere."""
        self._answer = load_model(context.model_config)

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """The answers; MlflowException, which a server tells with status 400, for a text that the
        model cannot take."""
        try:
            return pd.DataFrame(
                self._answer(
                    list(model_input.iloc[:, 0]) if model_input.shape[1] else [], params or {}
                )
            )
        except UserError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None

    def answer(
        self, texts: Sequence[Any], params: Mapping[str, Any], seconds: float
    ) -> list[dict[str, Any]]:
        """As `predict`, for a server that reads requests itself.

        UserError for an invalid text or parameter; TimeoutError some time after the seconds are
        over."""
        from pipeline import answers

        try:
            with answers.time_limit(seconds):
                return self._answer(texts, params)
        except answers.OutOfTime as error:
            raise TimeoutError from error


def load_model(
    reference: Mapping[str, Any],
) -> Callable[[Sequence[str], Mapping[str, Any]], list[dict[str, Any]]]:
    """Load the model of a version by the reference that `package.save_version` left."""
    # imports torch, which MLflow need not wait for where it only looks at the class
    from pipeline import answers

    root = _project(str(reference["root"]))
    model, vocab = (_laid_out(root, str(reference[kind])) for kind in ("model", "vocab"))
    device = params.compute(root / "params.yaml").device
    return answers.opened(
        str(reference["task"]), answers.Trained(model, vocab, reference["search"], device)
    )


def _project(then: str) -> Path:
    """Folder of the project now."""
    root = Path(os.environ.get(ROOT) or then)
    if not (root / ".dvc").is_dir():
        raise refuse(
            ROOT,
            str(root),
            "the project that the version's weights are in",
            f"Set {ROOT} to where it lies now.",
        )
    return root


def _laid_out(root: Path, md5: str) -> Path:
    place = root / ".seqline" / "served" / cache.check_md5(md5, "the version's reference")
    cache.materialise(root, md5, place)
    return place
