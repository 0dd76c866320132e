"""A request that a user can paste: what `seqline serve` prints at its start."""

import json
import re
import shlex
from contextlib import suppress
from pathlib import Path

from pipeline.core import params
from pipeline.core.errors import UserError
from pipeline.scoring import tasks

_BLANK = "___"
_OF_SAMPLES = ("translate", "classify", "generate", "fill")  # commands whose input is such a text


def curl(root: Path, version: str, url: str) -> str:
    """Return a shell command that asks the version at `url` a text of its corpus: the first sample
    that its task can answer, else the task's example."""
    task, _, corpus = re.split("[@/]", version)[0].partition("-")
    body = json.dumps({"inputs": [_text(root, task, corpus)]}, ensure_ascii=False)
    return f"curl {url} -H 'Content-Type: application/json' -d {shlex.quote(body)}"


def _text(root: Path, task: str, corpus: str) -> str:
    interface = tasks.interface(task)
    prompts: list[str] = []
    # The corpus may have left params.yaml since the version was registered.
    with suppress(UserError):
        samples = params.corpus(root / "params.yaml", corpus).samples
        prompts = [sample.prompt for sample in samples]

    has_blank = _BLANK in interface.example
    suited = [prompt for prompt in prompts if (_BLANK in prompt) == has_blank]
    return suited[0] if suited and interface.command in _OF_SAMPLES else interface.example
