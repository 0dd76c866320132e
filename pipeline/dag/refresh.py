"""`seqline refresh`: take over anew what has changed since it was copied, of the sources that
nothing pins.

A file or folder named by `source.path` is copied by the download stage, and DVC watches the copy; a
file of `source.files` without a hash is whatever its address serves. All others are known by their
hash, or by the seed of a grammar, and cannot change. Whether something changed is told by its
content alone: by the hashes in the copy's manifest."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.core import config, params
from pipeline.core.errors import UserError
from pipeline.dag import force_stage, paths
from pipeline.download import budget, own, unpinned
from pipeline.download.source import WORK, DownloadSettings, Files, open_fetcher
from pipeline.download.wanted import MANIFEST


@dataclass(frozen=True, slots=True)
class SourceChanges:
    """Corpora whose source has other content than their copy, with a hash of that content, and what
    could not be told."""

    changed: Mapping[str, str]
    troubles: tuple[str, ...]


def refresh(root: Path) -> SourceChanges:
    """Look, and download the changed corpora again; UserError if a path is gone or the stage fails.

    The caller holds `pipeline.dag.project_lock`.
    """
    seen = compare_sources(root)
    for corpus in seen.changed:
        force_stage.force(root, f"download@{corpus}")
    return seen


def compare_sources(root: Path) -> SourceChanges:
    """Compare the sources of the corpora that were downloaded before, in the order of params.yaml,
    with their copies.

    An address that does not answer is told and nothing more: the copy at hand stays. UserError for
    a path that is gone or cannot be read as a source."""
    changed: dict[str, str] = {}
    troubles: list[str] = []
    paths.check_names(root)
    for name in config.section(root / "params.yaml", "corpora"):
        corpus = params.corpus(root / "params.yaml", name)
        manifest = paths.option_path(root, "download", name, asdict(corpus), "out") / MANIFEST
        if not manifest.exists():
            continue
        copied = {
            file["name"]: file["sha256"]
            for file in json.loads(manifest.read_text(encoding="utf-8"))["files"]
        }
        now = copied
        if "path" in corpus.source:
            now = _own(os.path.join(root, corpus.source["path"]), f"corpora.{name}.source.path")
        elif "files" in corpus.source:
            served, unclear = _served(root, name, corpus)
            now, troubles = copied | served, troubles + unclear
        if now != copied:
            changed[name] = hashlib.sha256(json.dumps(now, sort_keys=True).encode()).hexdigest()
    return SourceChanges(changed, tuple(troubles))


def _own(path: str, where: str) -> dict[str, str]:
    digests = {}
    for source, name in own.files(path, where):
        digest = hashlib.sha256()
        for chunk in own.chunks(source, name, where):
            digest.update(chunk)
        digests[name] = digest.hexdigest()
    return digests


def _served(root: Path, name: str, corpus: params.Corpus) -> tuple[dict[str, str], list[str]]:
    """The sha256 of each file of the corpus that is not pinned, as its address has it now; why
    others could not be told."""
    where = f"corpora.{name}.source"
    source = config.load(Files, corpus.source, where)
    around = DownloadSettings(mirror="", work=root / WORK, budget=budget.load(root))
    served, unclear = {}, []
    with open_fetcher(name, source, around) as fetcher:
        for number, file in enumerate(source.files):
            if file.pinned():
                continue
            try:
                path, trouble = unpinned.latest(file, f"{where}.files[{number}]", fetcher)
            except UserError as error:
                # never downloaded from here, as in a clone that took its copy from a remote
                path, trouble = None, str(error)
                fetcher.outdated = True
            if trouble or path is None:
                unclear.append(trouble)
            else:
                served[file.name] = _digest(path)
    return served, unclear


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
