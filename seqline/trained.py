"""The trained run of a `Model`, and the part of the library that answers for its task. torch is
imported here, at the first load."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from pipeline import predictor
from pipeline.core import config, params
from pipeline.core.errors import refuse
from pipeline.inference import Prediction, load_run
from pipeline.predictions import TrainedRun
from pipeline.runs import names, trained
from pipeline.runs.trained import NamedRun
from pipeline.scoring import tasks
from pipeline.text.encode import Codec
from pipeline.tracking.versions import CHAMPION

_SHOWN = 10  # words of a warning
_OPEN: dict[str | None, Callable[[TrainedRun], Any]] = {
    "translate": predictor.open_session,
    "generate": predictor.open_session,
    "classify": predictor.open_classifier,
    "fill": predictor.open_filler,
    "neighbours": predictor.open_vectors,
}


@dataclass(frozen=True, slots=True)
class Run:
    """A trained run: its name, its block as it was trained, its files, and the codec of its texts;
    None for inputs that are no text."""

    name: str
    block: params.Run
    files: TrainedRun
    codec: Codec | None

    @property
    def command(self) -> str | None:
        """The subcommand of `seqline` that the run answers: translate, fill, ...; None for
        numbers."""
        command: str | None = tasks.interface(self.block.task).command
        return command

    @property
    def ranks_labels(self) -> bool:
        """True if a classifier gives all labels of an input."""
        module = config.named_module("pipeline.predictions", self.block.task, "task")
        return hasattr(module, "open_ranking")

    def open(self) -> Any:
        """Load what answers for the run's command; without one, the function that serving calls."""
        if self.command in _OPEN:
            return _OPEN[self.command](self.files)
        return predictor.load_predictor(self.block.task, self.files)

    def open_ranking(self) -> Callable[[Sequence[str]], list[list[Prediction]]]:
        """The function from texts to all labels of each."""
        return predictor.open_ranking(self.files)

    def network(self) -> nn.Module:
        """The torch module, loaded again."""
        return self.files.request().network()

    def unknown_words(self, texts: Sequence[str]) -> list[list[str]]:
        """The words of each text that the vocabulary lacks."""
        return predictor.unknown_words(self.codec, texts)

    def warn_of_unknown_words(self, texts: Sequence[str], frames: int) -> None:
        """Warn of words that the run does not know, as if at the call `frames` calls above."""
        words = list(dict.fromkeys(word for row in self.unknown_words(texts) for word in row))
        if not words:
            return
        more = f" and {len(words) - _SHOWN} more" if len(words) > _SHOWN else ""
        line = f"{self.name} does not know: {', '.join(words[:_SHOWN])}{more}"
        warnings.warn(line, UserWarning, stacklevel=frames + 1)


def find(root: Path, name: str, device: str | None) -> Run:
    """The run, the first run of the setting, or the version with the alias `MODEL@ALIAS`; UserError
    if there is none, or if it is not trained."""
    if "@" in name:
        run = _with_alias(root, name, device)
    else:
        run = trained.by_name(root, names.run_of(root, name, "load"), "load", device)
    files = run.files
    codec = predictor.vocabulary(run.task, files.vocab)
    return Run(run.name, load_run(files.model, files.search), files, codec)


def _with_alias(root: Path, name: str, device: str | None) -> NamedRun:
    from pipeline.tracking import registry  # imports mlflow: a second

    model, _, alias = name.partition("@")
    if not model:
        champions = [champion for champion, periods in registry.champions(root).items() if periods]
        if len(champions) != 1:
            expected = " or ".join(f"{champion}@{CHAMPION}" for champion in champions)
            todo = "" if champions else "Run `seqline promote RUN`."
            raise refuse("load", name, expected or "a champion, and there is none", todo)
        [model] = champions
    version = registry.version_with_alias(root, model, alias or CHAMPION)
    return trained.of_version(root, version, device)
