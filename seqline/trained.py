"""What `Model` is made of: the folders of a trained run, and the parts of the library that answer
for its task. torch is imported here, at the first load."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from pipeline import predictor
from pipeline.cli.run_names import run_of
from pipeline.cli.trained_run import run_folders
from pipeline.core import config, params
from pipeline.core.errors import refuse
from pipeline.dag import cache
from pipeline.inference import Prediction, Session, load_run
from pipeline.predictions import Filler, Predictor, TrainedRun
from pipeline.predictions.word_vectors import Words
from pipeline.scoring import tasks

_CHAMPION = "champion"
_SHOWN = 10  # words of a warning


@dataclass(frozen=True, slots=True)
class Run:
    """A trained run: its name, its block, and its files."""

    name: str
    block: params.Run
    files: TrainedRun

    @property
    def command(self) -> str | None:
        """The subcommand of `seqline` that the run answers: translate, fill, ...; None for
        numbers."""
        command: str | None = tasks.interface(self.block.task).command
        return command

    @property
    def ranks_labels(self) -> bool:
        """Whether a classifier gives all labels of an input."""
        module = config.named_module("pipeline.predictions", self.block.task, "task")
        return hasattr(module, "open_ranking")

    def open_session(self) -> Session:
        """The model with its search."""
        return Session.open(
            self.files.model, self.files.vocab, self.files.search, self.files.device
        )

    def open_classifier(self) -> Callable[[Sequence[str]], list[Prediction]]:
        """The function from texts, or names of PNG files, to labels."""
        return predictor.open_classifier(self.files)

    def open_ranking(self) -> Callable[[Sequence[str]], list[list[Prediction]]]:
        """The function from texts to all labels of each."""
        return predictor.open_ranking(self.files)

    def open_filler(self) -> Filler:
        """The model that fills blanks."""
        return predictor.open_filler(self.files)

    def open_words(self) -> Words:
        """The words with their vectors."""
        return predictor.open_vectors(self.files)

    def open_predictor(self) -> Predictor:
        """The function that serving calls."""
        return predictor.load_predictor(self.block.task, self.files)

    def network(self) -> nn.Module:
        """The torch module, loaded again."""
        return self.files.request().network()

    def unknown_words(self, texts: Sequence[str]) -> list[list[str]]:
        """The words of each text that the vocabulary lacks; none for inputs that are no text."""
        codec = predictor.vocabulary(self.block.task, self.files.vocab)
        return [[] for _ in texts] if codec is None else predictor.unknown_words(codec, texts)

    def warn_of_unknown_words(self, texts: Sequence[str], frames: int) -> None:
        """Warn of words that the run does not know, as if at the call `frames` calls above."""
        words = list(dict.fromkeys(word for found in self.unknown_words(texts) for word in found))
        if not words:
            return
        more = f" and {len(words) - _SHOWN} more" if len(words) > _SHOWN else ""
        line = f"{self.name} does not know: {', '.join(words[:_SHOWN])}{more}"
        warnings.warn(line, UserWarning, stacklevel=frames + 1)


def find(root: Path, name: str, device: str | None) -> Run:
    """The run, the first run of the setting, or the version with the alias `MODEL@ALIAS`; UserError
    if there is none, or if it is not trained."""
    if "@" in name:
        name, model, vocab, search = _with_alias(root, name)
    else:
        name = run_of(root, name, "load")
        model, vocab, search = run_folders(root, name, "load")
    device = device or params.compute(root / "params.yaml").device
    return Run(name, load_run(model, search), TrainedRun(model, vocab, search, device))


def _with_alias(root: Path, name: str) -> tuple[str, Path, Path, dict[str, Any] | None]:
    """Run, folders of model and vocabulary, and `search:` of a registered version."""
    from pipeline.tracking import registry  # imports mlflow: a second

    registered, _, alias = name.partition("@")
    if not registered:
        champions = [model for model, periods in registry.champions(root).items() if periods]
        if len(champions) != 1:
            expected = " or ".join(f"{model}@{_CHAMPION}" for model in champions)
            todo = "" if champions else "Run `seqline promote RUN`."
            raise refuse("load", name, expected or "a champion, and there is none", todo)
        [registered] = champions

    # A later training does not change the version: its files are those with its hashes.
    version = registry.version_with_alias(root, registered, alias or _CHAMPION)
    model, vocab = (cache.served_folder(root, version.md5(kind)) for kind in ("model", "vocab"))
    return version.run, model, vocab, version.block.get("search")
