"""A request that a user can paste: what `seqline serve` prints at its start."""

import json
import re
import shlex
from pathlib import Path

from pipeline.runs.sample_text import sample_text
from pipeline.scoring import tasks


def curl(root: Path, version: str, url: str) -> str:
    """Return a shell command that asks the version at `url` a text of its corpus: the first sample
    that its task can answer, else the task's example."""
    task, _, corpus = re.split("[@/]", version)[0].partition("-")
    text = sample_text(root, task, corpus) or tasks.interface(task).example
    body = json.dumps({"inputs": [text]}, ensure_ascii=False)
    return f"curl {url} -H 'Content-Type: application/json' -d {shlex.quote(body)}"
