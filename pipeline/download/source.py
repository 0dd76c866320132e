"""`corpora.<name>.source`: fetch a corpus from its source into a folder with a manifest."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from pipeline.core import config
from pipeline.core.digest import file_digest
from pipeline.core.errors import refuse
from pipeline.download import addresses, own, unpack, unpinned
from pipeline.download.budget import SHIPPED, Account, Budget
from pipeline.download.fetch import DEFAULT_RETRIES, Fetcher, RetryPolicy
from pipeline.download.wanted import MANIFEST, Bundle, Listed
from pipeline.grammars.grammar import Config


@dataclass(frozen=True, kw_only=True, slots=True)
class Files:
    """`source: {files: [...]}`: pinned files, from addresses or a mirror, and files that are not
    pinned, from addresses."""

    files: tuple[Listed, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Bundled:
    """`source: {bundle: ...}`: the many small files of an archive's folders, pinned together."""

    bundle: Bundle


@dataclass(frozen=True, kw_only=True, slots=True)
class PathSource:
    """`source: {path: ...}`: the user's own file or folder, relative to the project's root."""

    path: str


# The section of each kind of source but `builtin`, which its grammar loads.
SECTIONS = {"files": Files, "bundle": Bundled, "path": PathSource}


@dataclass(frozen=True, slots=True)
class DownloadSettings:
    """Settings of a download besides its section.

    `mirror`: SEQLINE_MIRROR, "" for none. `work`: the folder for partial downloads.
    """

    mirror: str
    work: Path
    retry_policy: RetryPolicy = DEFAULT_RETRIES
    budget: Budget = SHIPPED


@contextmanager
def open_fetcher(
    corpus: str, source: Files | Bundled, settings: DownloadSettings
) -> Iterator[Fetcher]:
    """Open a fetcher for the source, with the source's account.

    At the end the recorded spending is deleted if all files were fetched. It is kept for the next
    attempt if the budget is spent or part of a file remains. It is deleted after any other failure,
    since such an attempt is bounded by itself."""
    account = Account(settings.budget, settings.work, f"{corpus} {source!r}")
    fetcher = Fetcher(corpus, settings.work, account, settings.retry_policy)

    complete = False
    try:
        yield fetcher
        complete = not fetcher.outdated
    finally:
        if complete or not (account.spent or fetcher.unfinished):
            account.forget()


def obtain(corpus: str, source: Mapping[str, Any], into: Path, settings: DownloadSettings) -> None:
    """Fill the folder `into` with the corpus's files, from the source that the only key of `source`
    names, and `manifest.json`: the name, size, sha256 and canonical origin of each file."""
    where = f"corpora.{corpus}.source"
    handlers = {
        "builtin": _write_builtin,
        "files": _fetch_files,
        "bundle": _fetch_bundle,
        "path": _copy_path,
    }
    origins = handlers[kind(source, where)](corpus, source, where, into, settings)
    # The manifest has the same bytes for every mirror or address that served the files.
    files = [
        {
            "name": name,
            "bytes": (into / name).stat().st_size,
            "sha256": file_digest(into / name, "sha256"),
            "source": origin,
        }
        for name, origin in sorted(origins.items())
    ]
    (into / MANIFEST).write_text(json.dumps({"files": files}, indent=1) + "\n", encoding="utf-8")


def kind(source: Mapping[str, Any], where: str) -> str:
    """The only key of the section `source`, which is called `where`; UserError for any other."""
    kinds = ("builtin", *SECTIONS)
    if len(source) != 1 or next(iter(source)) not in kinds:
        got = ", ".join(str(key) for key in source) or "nothing"
        raise refuse(where, got, f"exactly one of the keys {', '.join(kinds)}")
    return next(iter(source))


def load_grammar(block: Any, here: str) -> tuple[ModuleType, Config]:
    """Load the grammar that the section `builtin` names, and its config; `here` is the section's
    dotted name."""
    if not isinstance(block, Mapping) or "grammar" not in block:
        raise refuse(f"{here}.grammar", "nothing", "the name of a grammar", "Add the key.")
    module = config.named_module("pipeline.grammars", block["grammar"], f"{here}.grammar")
    if not hasattr(module, "write") or not hasattr(module, "Config"):
        raise refuse(f"{here}.grammar", block["grammar"], "a module with SPLITS, Config and write")

    values = {key: value for key, value in block.items() if key != "grammar"}
    loaded: Config = config.load(module.Config, values, here)
    for split in loaded.sizes:
        if split not in module.SPLITS:
            raise refuse(
                f"{here}.sizes.{split}",
                "an unknown split",
                "one of " + ", ".join(module.SPLITS),
                "Remove it.",
            )
    return module, loaded


def _write_builtin(
    corpus: str, source: Mapping[str, Any], where: str, into: Path, settings: DownloadSettings
) -> dict[str, str]:
    module, grammar_config = load_grammar(source["builtin"], f"{where}.builtin")
    module.write(into, grammar_config)
    name = source["builtin"]["grammar"]
    return {
        path.relative_to(into).as_posix(): f"builtin:{name}"
        for path in into.rglob("*")
        if path.is_file()
    }


def _fetch_files(
    corpus: str, source: Mapping[str, Any], where: str, into: Path, settings: DownloadSettings
) -> dict[str, str]:
    loaded = config.load(Files, source, where)
    files = loaded.files
    addresses.check_names(files, f"{where}.files")
    keys = {file.name: f"{where}.files[{number}]" for number, file in enumerate(files)}

    with open_fetcher(corpus, loaded, settings) as fetcher:
        pinned = [pinned_file for file in files if (pinned_file := file.pinned())]
        if pinned:
            addresses.Collector(
                corpus, pinned, lambda file: keys[file.name], into, fetcher
            ).collect(settings.mirror)
        for file in files:
            if file.pinned():
                unpack.refuse_archive(into / file.name, file.name, keys[file.name])
            else:
                unpinned.copy_latest(file, keys[file.name], into, fetcher)
    return {file.name: file.urls[0] for file in files}


def _fetch_bundle(
    corpus: str, source: Mapping[str, Any], where: str, into: Path, settings: DownloadSettings
) -> dict[str, str]:
    loaded = config.load(Bundled, source, where)
    bundle = loaded.bundle
    with open_fetcher(corpus, loaded, settings) as fetcher:
        addresses.Collector(corpus, [bundle], lambda _: f"{where}.bundle", into, fetcher).collect(
            settings.mirror
        )
    return {bundle.name: bundle.urls[0]}


def _copy_path(
    corpus: str, source: Mapping[str, Any], where: str, into: Path, settings: DownloadSettings
) -> dict[str, str]:
    path = config.load(PathSource, source, where).path
    return dict.fromkeys(own.copy(path, f"{where}.path", into), f"path:{path}")
