"""What `Model` is made of: the folders of a trained run, and the parts of the library that answer
for its task. torch is imported here, at the first load."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from pipeline.cli.run_names import run_of
from pipeline.cli.trained_run import run_folders
from pipeline.contracts import Spelled
from pipeline.core import config, params
from pipeline.core.errors import refuse
from pipeline.dag import cache
from pipeline.inference import Prediction, Session, load_run
from pipeline.predictions import Predictor, TrainedRun
from pipeline.predictor import load_predictor

_CHAMPION = "@champion"
_SHOWN = 60  # characters of a word in a message


@dataclass(frozen=True, slots=True)
class Run:
    """A trained run: its name, its block, and its folders."""

    name: str
    block: params.Run
    files: TrainedRun

    @property
    def predictions(self) -> ModuleType:
        """The module of `pipeline.predictions` for the run's task."""
        return config.named_module("pipeline.predictions", self.block.task, "task")

    @property
    def uses_search(self) -> bool:
        """Whether the run translates or generates."""
        return bool(config.named_module("pipeline.tasks", self.block.task, "task").USES_SEARCH)

    @property
    def forecasts(self) -> bool:
        """Whether the run predicts numbers."""
        return "steps" in self.predictions.PARAMS

    def open_session(self) -> Session:
        """The model with its search."""
        return Session.open(
            self.files.model, self.files.vocab, self.files.search, self.files.device
        )

    def open_classifier(self) -> Callable[[Sequence[str]], list[Prediction]]:
        """The function from texts, or names of PNG files, to labels."""
        classify: Callable[[Sequence[str]], list[Prediction]] = self.predictions.open_classifier(
            self.files
        )
        return classify

    def open_predictor(self) -> Predictor:
        """The function that serving calls."""
        return load_predictor(self.block.task, self.files)

    def open_vectors(self) -> "Vectors":
        """The vectors of all words."""
        model, table = self.predictions.vectors(self.files.request())
        tokens = table["token"].to_pylist()
        flat = np.asarray(table["vector"].combine_chunks().values)
        return Vectors(tokens, flat.reshape(len(tokens), -1), model)

    def network(self) -> nn.Module:
        """The torch module, loaded again."""
        return self.files.request().network()


class Vectors:
    """Words with their vectors."""

    def __init__(self, words: Sequence[str], vector_VD: NDArray[np.float32], model: Any) -> None:
        self.dimension = vector_VD.shape[1]
        self._words = words
        self._ids = {word: number for number, word in enumerate(words)}
        self._vector_VD = vector_VD
        self._unit_VD = vector_VD / np.maximum(np.linalg.norm(vector_VD, axis=1), 1e-12)[:, None]
        self._model = model

    def of(self, word: str, where: str) -> NDArray[np.float32]:
        """The vector D of a word; UserError if it has none."""
        if word in self._ids:
            vector_D: NDArray[np.float32] = self._vector_VD[self._ids[word]]
            return vector_D
        # A family that reads letters has vectors of unknown words too.
        if isinstance(self._model, Spelled):
            spelled_D: NDArray[np.float32] = self._model.spell([word])[0].cpu().numpy()
            if spelled_D.any():
                return spelled_D
        todo = config.nearest(word, list(self._words)) or "Use another word."
        raise refuse(where, word[:_SHOWN], "a word of the vocabulary", todo)

    def nearest(self, word: str, n: int, where: str) -> list[tuple[str, float]]:
        """The `n` nearest other words with their cosines, the nearest first."""
        if n < 1:
            raise refuse("n", n, "at least 1")
        vector_D = self.of(word, where)
        cosine_V = self._unit_VD @ (vector_D / max(float(np.linalg.norm(vector_D)), 1e-12))
        order = [i for i in np.argsort(-cosine_V, kind="stable") if self._words[i] != word]
        return [(self._words[i], float(cosine_V[i])) for i in order[:n]]


def find(root: Path, name: str, device: str | None) -> Run:
    """The run, the first run of the setting, or the champion of that name; UserError if there is
    none, or if it is not trained."""
    if name.endswith(_CHAMPION):
        name, model, vocab, search = _champion(root, name.removesuffix(_CHAMPION))
    else:
        name = run_of(root, name, "load")
        model, vocab, search = run_folders(root, name, "load")
    device = device or params.compute(root / "params.yaml").device
    return Run(name, load_run(model, search), TrainedRun(model, vocab, search, device))


def _champion(root: Path, name: str) -> tuple[str, Path, Path, dict[str, Any] | None]:
    """Run, folders of model and vocabulary, and `search:` of the champion of the registered model,
    or of the only one that has a champion."""
    from pipeline.tracking import registry  # imports mlflow: a second

    champions = {
        model: periods[0].version for model, periods in registry.champions(root).items() if periods
    }
    if not champions:
        todo = "Run `seqline promote RUN`."
        raise refuse("load", f"{name}{_CHAMPION}", "a champion, and there is none", todo)
    if (name or len(champions) > 1) and name not in champions:
        expected = " or ".join(f"{model}{_CHAMPION}" for model in champions)
        raise refuse("load", f"{name}{_CHAMPION}", expected)

    # A later training does not change the version: its files are those with its hashes.
    version = champions[name or next(iter(champions))]
    model, vocab = (
        cache.served_folder(root, version.outs[version.places[kind]]) for kind in ("model", "vocab")
    )
    return version.run, model, vocab, version.block.get("search")
