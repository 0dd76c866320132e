"""A version as a folder that MLflow can load and serve: code, signature, example, requirements, and
weights by reference."""

import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import mlflow.pyfunc
import pandas as pd
from mlflow.models import Model, ModelSignature
from mlflow.types.schema import ColSpec, ParamSchema, ParamSpec, Schema

from pipeline.tracking.lineage import EvaluatedRun

_LOADER = Path(__file__).with_name("loader.py")
_PACKAGES = ("mlflow", "torch", "numpy", "pyarrow", "safetensors", "tokenizers", "dvc", "pyyaml")
_FLAVOR, _CODE = "python_function", "model_code_path"


class Interface(NamedTuple):
    """Interface of a task's versions: columns that come out by name and MLflow's type, params by
    name with type and default, and a text that goes in."""

    answers: dict[str, str]
    params: dict[str, tuple[str, Any]]
    example: str


INTERFACES = {
    "translation": Interface(
        {"row": "long", "text": "string", "log_prob": "double"}, {"n_best": ("long", 1)}, "hello ."
    ),
    "language_model": Interface({"text": "string"}, {"seed": ("long", 1)}, "once upon a time"),
    "classification": Interface({"label": "string", "probability": "double"}, {}, "so good ."),
    "fill_blank": Interface({"text": "string", "log_prob": "double"}, {}, "the ___ sleeps ."),
    "masked_language_model": Interface(
        {"text": "string", "log_prob": "double"}, {}, "the ___ sleeps ."
    ),
    "word_vectors": Interface({"text": "string"}, {}, "king"),
}
"""By task; of a translation there are as many rows as answers, `row` being the number of the text
that one is of."""


def save_version(folder: Path, root: Path, made: EvaluatedRun) -> None:
    """Make `folder`: the version that serves `made` out of the DVC cache of the project `root`."""
    face = INTERFACES.get(made.task)
    reference = {
        "root": str(root),
        "task": made.task,
        "model": made.md5("model"),
        "vocab": made.md5("vocab"),
    }
    mlflow.pyfunc.save_model(
        path=str(folder),
        python_model=str(_LOADER),
        model_config={**reference, "search": made.block.get("search")},
        signature=None if face is None else signature(face),
        input_example=pd.DataFrame({"text": [_example(made, face)]}),
        pip_requirements=requirements(),
    )
    about = Model.load(str(folder))
    # where it lay here says nothing elsewhere; MLflow reads the name alone
    about.flavors[_FLAVOR][_CODE] = _LOADER.name
    about.save(str(folder / "MLmodel"))


def signature(face: Interface) -> ModelSignature:
    """Texts in, as one column whatever it is called; the face's columns out."""
    params = [ParamSpec(name, kind, default) for name, (kind, default) in face.params.items()]
    return ModelSignature(
        inputs=Schema([ColSpec("string")]),
        outputs=Schema([ColSpec(kind, name) for name, kind in face.answers.items()]),
        params=ParamSchema(params) if params else None,
    )


def requirements() -> list[str]:
    """Requirements of a version beside the project, as they are installed here."""
    return [f"{name}=={importlib.metadata.version(name).split('+')[0]}" for name in _PACKAGES]


def _example(made: EvaluatedRun, face: Interface | None) -> str:
    """The first of the corpus's samples that fits the task, which a reader can send as it is."""
    blank = face is not None and "___" in face.example
    prompts = [str(_prompt(sample)) for sample in made.corpus_block.get("samples") or ()]
    fitting = [prompt for prompt in prompts if ("___" in prompt) == blank]
    return fitting[0] if fitting else face.example if face is not None else ""


def _prompt(sample: Mapping[str, Any]) -> Any:
    return sample["prompt"]
