"""A text of a corpus to try a model of it with."""

from contextlib import suppress
from pathlib import Path

from pipeline.core import params
from pipeline.core.errors import UserError
from pipeline.scoring import tasks

_BLANK = "___"
_FROM_SAMPLES = ("translate", "classify", "generate", "fill")  # commands whose input is a sample


def sample_text(root: Path, task: str, corpus: str) -> str | None:
    """Return the corpus's first sample that models of the task can answer; None if there is none.

    Samples with blanks are for blank fillers alone. The corpus may have left params.yaml since a
    version was registered."""
    interface = tasks.interface(task)
    if interface.command not in _FROM_SAMPLES:
        return None
    with suppress(UserError):
        for sample in params.corpus(root / "params.yaml", corpus).samples:
            if (_BLANK in sample.prompt) == (_BLANK in interface.example):
                return sample.prompt
    return None
