"""`seqline refresh`: pull new data from the sources that no hash pins.

Such sources are files and folders of `source.path`, which the download stage copies, and files of
`source.files` without a hash. All others are pinned by their hash, or by the seed of a grammar, and
cannot change. Only content counts: it is compared with the hashes in the copy's manifest."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.core import config, params, state_dir
from pipeline.core.digest import file_digest
from pipeline.core.errors import UserError
from pipeline.dag import force_stage, paths
from pipeline.download import budget, own, unpinned
from pipeline.download.source import DownloadSettings, Files, open_fetcher
from pipeline.download.wanted import MANIFEST


@dataclass(frozen=True, slots=True)
class SourceChanges:
    """Differences between sources and their copies.

    `changed`: corpora whose source has other content, with a hash of that content; `troubles`: a
    line for each address that could not be compared."""

    changed: Mapping[str, str]
    troubles: tuple[str, ...]


def refresh(root: Path) -> SourceChanges:
    """Download the changed corpora again; UserError if a path is gone or the stage fails.

    The caller holds `project_lock.flow_lock`.
    """
    changes = compare_sources(root)
    for corpus in changes.changed:
        force_stage.force(root, f"download@{corpus}")
    return changes


def compare_sources(root: Path) -> SourceChanges:
    """Compare the sources of the corpora that were downloaded before, in the order of params.yaml,
    with their copies.

    An address that does not answer is reported, and its copy stays. UserError for a path that is
    gone or cannot be read as a source."""
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
        # Pinned files, and grammars, keep the hashes of the copy.
        current = copied
        if "path" in corpus.source:
            path = os.path.join(root, corpus.source["path"])
            current = _local_digests(path, f"corpora.{name}.source.path")
        elif "files" in corpus.source:
            served, unclear = _served_digests(root, name, corpus)
            current = copied | served
            troubles += unclear
        if current != copied:
            content = json.dumps(current, sort_keys=True).encode()
            changed[name] = hashlib.sha256(content).hexdigest()
    return SourceChanges(changed, tuple(troubles))


def _local_digests(path: str, where: str) -> dict[str, str]:
    """Return the sha256 of each file of a source on this machine, as the download stage copies
    it."""
    digests = {}
    for name, chunks in own.contents(path, where):
        digest = hashlib.sha256()
        for chunk in chunks:
            digest.update(chunk)
        digests[name] = digest.hexdigest()
    return digests


def _served_digests(
    root: Path, name: str, corpus: params.Corpus
) -> tuple[dict[str, str], list[str]]:
    """Return the sha256 of each file that is not pinned, as its address serves it now, and the
    reason for each file that could not be fetched."""
    where = f"corpora.{name}.source"
    source = config.load(Files, corpus.source, where)
    surroundings = DownloadSettings(
        mirror="", work=root / state_dir.DOWNLOADS, budget=budget.load(root)
    )

    served = {}
    unclear = []
    with open_fetcher(name, source, surroundings) as fetcher:
        for number, file in enumerate(source.files):
            if file.pinned():
                continue
            try:
                path, trouble = unpinned.latest(file, f"{where}.files[{number}]", fetcher)
            except UserError as error:
                # Never downloaded from here, as in a clone that pulled its copy from a remote.
                path = None
                trouble = str(error)
                fetcher.outdated = True
            if trouble or path is None:
                unclear.append(trouble)
            else:
                served[file.name] = file_digest(path, "sha256")
    return served, unclear
