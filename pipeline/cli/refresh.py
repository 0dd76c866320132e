"""`seqline refresh`: take over the user's own files anew where they have changed since they were copied.

A file or folder named by `source.path` is copied by the download stage, and DVC watches the copy. All others are known
by their hash, or by the seed of a grammar, and cannot change.
"""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from pipeline import config, params
from pipeline.cli import dag
from pipeline.download import own
from pipeline.download.wanted import MANIFEST
from pipeline.errors import UserError


def refresh(root: Path) -> list[str]:
    """Download the changed corpora again, whose names are returned; UserError if a path is gone or DVC fails."""
    found = changed(root)
    for corpus in found:
        command = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--force", "--single-item", f"download@{corpus}"]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True)
        if done.returncode:
            said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
            own = [line.removeprefix("seqline: ") for line in said if line.startswith("seqline: ")]
            raise UserError(own[-1] if own else f"download@{corpus}: got {' '.join(said[-1:])}; expected DVC to run it.")
    return found


def changed(root: Path) -> list[str]:
    """The corpora whose copy exists and differs from their own files now, in the order of params.yaml.

    UserError for a path that is gone or cannot be read as a source.
    """
    found = []
    for name in config.section(root / "params.yaml", "corpora"):
        corpus = params.corpus(root / "params.yaml", name)
        manifest = dag.option(root, "download", name, asdict(corpus), "out") / MANIFEST
        if "path" in corpus.source and manifest.exists():
            files = json.loads(manifest.read_text(encoding="utf-8"))["files"]
            path = os.path.join(root, corpus.source["path"])
            if {file["name"]: file["sha256"] for file in files} != _now(path, f"corpora.{name}.source.path"):
                found.append(name)
    return found


def _now(path: str, where: str) -> dict[str, str]:
    found = {}
    for source, name in own.files(path, where):
        with source.open("rb") as file:
            found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found
