"""Facts about a run for MLflow: its project, its part of dvc.lock, its commit. No mlflow here."""

import hashlib
import json
import os
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from pipeline.core import git

_FORBIDDEN = re.compile(r"[^\w\-./: ]")  # characters that MLflow allows in no name
_ESCAPE = re.compile(r":[0-9A-F]*:")
_MAX_LENGTH = 250
_UNTRAINED_CORPUS_KEYS = {"samples", "bleu_tokenizer"}  # later stages read them
_FORMER_TAGS = {"task", "dvc.stage", "seqline.recorded"}
_FORMER_PREFIXES = ("dvc.deps/", "dvc.outs/", "search.")
SETTING = "setting"  # tag by which MLflow's pages group runs
LIVE_TAGS = {"device"}  # what a run shows of the facts that its training passes
EXPERIMENT = "experiment"  # fact of `origin`: the name of DVC's experiment
_ORIGIN_TAGS = {"commit": "mlflow.source.git.commit", EXPERIMENT: "dvc.exp.name"}
_SPECIAL_IN_URI = re.compile(r"[?#%'\"\\\x00-\x1f\x7f\udc80-\udcff]")


def home(root: Path) -> Path:
    """Return the project whose store a run in `root` uses.

    That is `root` itself, except for `dvc exp run --temp` and `--queue`. These run in a copy under
    `.dvc/tmp/exps` that is deleted afterwards: the project is the one around it."""
    # DVC's copy is at `.dvc/tmp/exps/...` of the project.
    parts = root.resolve().parts
    for i in range(len(parts) - 2):
        if parts[i : i + 3] == (".dvc", "tmp", "exps"):
            return Path(*parts[:i])
    return root.resolve()


def uri(root: Path) -> str:
    """Address of the MLflow store: `MLFLOW_TRACKING_URI`, or the project's own SQLite file.

    It may contain a password. The path of an SQLite file may be relative to the project: the
    processes of a training work in several folders."""
    file = database(root)
    return os.environ["MLFLOW_TRACKING_URI"] if file is None else sqlite_uri(file)


def sqlite_uri(database: Path) -> str:
    """Return SQLAlchemy's address of an SQLite file at any path.

    SQLAlchemy ends the path at a `?` and decodes nothing, so a path with such characters is given
    as SQLite's own `file:` URI. The driver is named there, since MLflow would create folders for a
    `sqlite:///file:...` address."""
    if not _SPECIAL_IN_URI.search(str(database)):
        return f"sqlite:///{database}"
    return f"sqlite+pysqlite:///file:{quote(os.fsencode(database))}?uri=true"


def database(root: Path) -> Path | None:
    """Return the SQLite file that is the store; None for a server, another database, or an address
    with options."""
    address = os.environ.get("MLFLOW_TRACKING_URI")
    if not address:
        return home(root) / "mlflow.db"
    if not address.startswith("sqlite:///") or "?" in address:
        return None
    return home(root) / address.removeprefix("sqlite:///")


def may_exist(root: Path) -> bool:
    """Return whether there may be a store: False for an SQLite file that is not there."""
    file = database(root)
    return file is None or file.exists()


def read_lock(root: Path) -> dict[str, Any]:
    """The stages of `dvc.lock` by name, e.g. `train@lstm`; empty where there is none yet."""
    try:
        text = (root / "dvc.lock").read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    return parse_lock(text)


def parse_lock(text: str) -> dict[str, Any]:
    """The stages in the text of a `dvc.lock` by name."""
    # The lock of a hundred stages takes the pure Python loader a second.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return dict((yaml.load(text, Loader=loader) or {}).get("stages", {}))


def hashes(stages: Mapping[str, Any], stage: str, kind: str) -> dict[str, str]:
    """path -> DVC's md5 of the `deps` or `outs` of a stage, as far as the lock knows them."""
    return {
        item["path"]: item["md5"] for item in stages.get(stage, {}).get(kind, []) if "md5" in item
    }


def locked_params(stages: Mapping[str, Any], stage: str) -> dict[str, Any]:
    """The values of `params.yaml` with which a stage ran, by dotted key."""
    return dict(stages.get(stage, {}).get("params", {}).get("params.yaml", {}))


def flatten(
    values: Mapping[str, Any], above: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Walk nested mappings: the keys that lead to each value, and the value; lists stay whole."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flatten(value, (*above, str(key)))
        else:
            yield (*above, str(key)), value


def mlflow_name(*keys: str, joint: str = "/") -> str:
    """Return MLflow's name of a metric, a param or a tag for a text, or for nested keys.

    MLflow allows letters and digits of any script, and `_-./: `. Names are paths, without empty
    parts or dots alone. Any other character becomes its code point: `c#` becomes `c:23:`. A name
    that is too long ends in its hash. The mapping is injective: a colon is escaped where it could
    be taken for an escape, and so is the `joint` of two keys within one of them."""
    result = joint.join(keys)
    joint_in_key = len(keys) > 1 and any(joint in key for key in keys)
    if joint_in_key or _FORBIDDEN.search(result) or _ESCAPE.search(result):
        allowed = r"\w\-./ ".replace(joint, "") if joint_in_key else r"\w\-./ "
        result = joint.join(
            re.sub(f"[^{allowed}]", lambda match: f":{ord(match[0]):X}:", key) for key in keys
        )

    result = "/".join(_escape_part(part) for part in result.split("/"))
    if len(result) <= _MAX_LENGTH:
        return result
    # A hash in lower case cannot be taken for an escape.
    digest = hashlib.sha256(result.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{result[: _MAX_LENGTH - len(digest) - 2]}:{digest}:"


def flatten_texts(values: Mapping[str, Any]) -> dict[str, str]:
    """Flatten nested settings to texts by MLflow's names; values other than texts become JSON.

    Keys are joined by dots. If two have the same name then, the dots within the keys of the later
    one are escaped."""
    settings: dict[str, str] = {}
    for keys, value in sorted(flatten(values), key=lambda leaf: leaf[0]):
        name = mlflow_name(".".join(keys))
        if name in settings:
            name = mlflow_name(*keys, joint=".")
        is_text = isinstance(value, str)
        settings[name] = value if is_text else json.dumps(value, ensure_ascii=False, default=str)
    return settings


def _escape_part(part: str) -> str:
    """Escape a part of a path that MLflow refuses: an empty one, and one of dots."""
    if part == "":
        return "::"
    if part == "." or part.startswith(".."):
        return f":2E:{part[1:].replace('.', ':2E:')}"
    return part


def settings(block: Mapping[str, Any]) -> dict[str, str]:
    """The params of an MLflow run, which can never change: the run's block without `search`, which
    training ignores."""
    return flatten_texts({key: value for key, value in block.items() if key != "search"})


def corpus_block(stages: Mapping[str, Any], corpus: str) -> dict[str, Any]:
    """The corpus's block of `params.yaml` as of the executed stages."""
    block: dict[str, Any] = {}
    for stage in ("download", "tokenize", "vocab"):
        block |= locked_params(stages, f"{stage}@{corpus}")
    return {key.removeprefix(f"corpora.{corpus}."): value for key, value in block.items()}


def corpus_settings(block: Mapping[str, Any]) -> dict[str, str]:
    """Params of an MLflow run for the block of its corpus, under `corpus_settings.`."""
    read = {key: value for key, value in block.items() if key not in _UNTRAINED_CORPUS_KEYS}
    return {f"corpus_settings.{key}": value for key, value in flatten_texts(read).items()}


def labels(block: Mapping[str, Any], label: str = "") -> dict[str, str]:
    """Tags for filters and groups on MLflow's pages.

    `label` says what differs from the committed setting: it makes another group."""
    tags = {key: str(block[key]) for key in ("seed", "family", "corpus") if key in block}
    if "setting" in block:
        tags[SETTING] = f"{block['setting']} {label}".strip()
    return tags


def origin(root: Path) -> dict[str, Any]:
    """Project, commit and experiment; without a commit outside of git.

    `dirty`: files differ from the commit."""
    commit = _git(root, "rev-parse", "HEAD")
    # A run itself writes dvc.lock and reports: their changes do not make the code dirty.
    changed = _git(
        root,
        "status",
        "--porcelain",
        "--untracked-files=no",
        "--",
        ".",
        ":(exclude)dvc.lock",
        ":(exclude)reports",
    )
    facts: dict[str, Any] = {"project": home(root).name}
    if commit:
        facts |= {"commit": commit, "dirty": bool(changed)}
    for variable, fact in (("DVC_EXP_NAME", EXPERIMENT), ("DVC_EXP_BASELINE_REV", "baseline")):
        if os.environ.get(variable):
            facts[fact] = os.environ[variable]
    return facts


def origin_tags(facts: Mapping[str, Any]) -> dict[str, str]:
    """Tags of what `origin` returns; MLflow's pages hide those whose names begin with `mlflow`."""
    tags = {"mlflow.source.name": "seqline", "mlflow.source.type": "PROJECT"}
    return tags | {tag: str(facts[fact]) for fact, tag in _ORIGIN_TAGS.items() if fact in facts}


def tagged_origin(tags: Mapping[str, str]) -> dict[str, Any]:
    """Facts of `origin` that a run's tags have."""
    return {fact: tags[tag] for fact, tag in _ORIGIN_TAGS.items() if tag in tags}


def is_former_tag(tag: str, signatures: Collection[str]) -> bool:
    """Return whether older versions wrote the tag, whose content is in provenance.json now.

    `signatures` are the names of a run's texts there."""
    return tag in _FORMER_TAGS or tag.startswith(_FORMER_PREFIXES) or tag in signatures


def _git(root: Path, *arguments: str) -> str:
    # No lock: another process may be committing.
    return git.text_output(root, "--no-optional-locks", *arguments).strip()
