"""A version as a folder that MLflow can load and serve: code, signature, example and requirements.

The weights stay in DVC's cache; the folder refers to them by their md5."""

import importlib.metadata
from pathlib import Path

import mlflow.pyfunc
import pandas as pd
from mlflow.models import Model, ModelSignature
from mlflow.types.schema import Array, ColSpec, DataType, ParamSchema, ParamSpec, Schema

from pipeline.scoring import tasks
from pipeline.scoring.tasks import Interface
from pipeline.tracking.lineage import EvaluatedRun

_LOADER = Path(__file__).with_name("loader.py")
_PACKAGES = ("mlflow", "torch", "numpy", "pyarrow", "safetensors", "tokenizers", "dvc", "pyyaml")
_FLAVOR, _CODE = "python_function", "model_code_path"


def save_version(folder: Path, root: Path, run: EvaluatedRun) -> None:
    """Create `folder`: the version that serves the run from the DVC cache of the project `root`."""
    interface = tasks.interface(run.task)
    reference = {
        "root": str(root),
        "task": run.task,
        "model": run.md5("model"),
        "vocab": run.md5("vocab"),
    }
    mlflow.pyfunc.save_model(
        path=str(folder),
        python_model=str(_LOADER),
        model_config={**reference, "search": run.block.get("search")},
        signature=signature(interface, run.corpus_block.get("text") is not None),
        input_example=pd.DataFrame({"text": [_example(run, interface)]}),
        pip_requirements=requirements(),
    )

    # MLflow stores the loader's absolute path, which means nothing on another machine, and reads
    # the name only.
    model = Model.load(str(folder))
    model.flavors[_FLAVOR][_CODE] = _LOADER.name
    model.save(str(folder / "MLmodel"))


def signature(interface: Interface, has_words: bool) -> ModelSignature:
    """Texts in one column of any name as input; the interface's columns as output, and the unknown
    words of a text if it `has_words`."""
    outputs = [ColSpec(kind, name) for name, kind in interface.outputs.items()]
    if has_words:
        outputs.append(ColSpec(Array(DataType.string), "unknown_words"))
    params = [ParamSpec(name, kind, default) for name, (kind, default) in interface.params.items()]
    return ModelSignature(
        inputs=Schema([ColSpec("string")]),
        outputs=Schema(outputs),
        params=ParamSchema(params) if params else None,
    )


def requirements() -> list[str]:
    """Requirements of a version besides the project, as installed here."""
    return [f"{name}=={importlib.metadata.version(name).split('+')[0]}" for name in _PACKAGES]


def _example(run: EvaluatedRun, interface: Interface) -> str:
    """Return the first of the corpus's samples that fits the task, which a reader can send as it
    is."""
    needs_blank = "___" in interface.example
    for sample in run.corpus_block.get("samples") or ():
        prompt = str(sample["prompt"])
        if ("___" in prompt) == needs_blank:
            return prompt
    return interface.example
