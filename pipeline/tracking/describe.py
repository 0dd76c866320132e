"""What is known of a run beside its figures: where the project is, what DVC's lock says, which commit. No mlflow here."""

import json
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

_NOT_IN_A_NAME = re.compile(r"[^\w\-./: ]", re.ASCII)


def home(root: Path) -> Path:
    """The project whose store `root` belongs to: itself, or for `dvc exp run --temp` and `--queue`, which run in a copy
    under `.dvc/tmp/exps` that is deleted afterwards, the project that they were started in."""
    parts = root.resolve().parts
    for i in range(len(parts) - 2):
        if parts[i : i + 3] == (".dvc", "tmp", "exps"):
            return Path(*parts[:i])
    return root.resolve()


def uri(root: Path) -> str:
    """Where the MLflow store is: `MLFLOW_TRACKING_URI`, or the project's own SQLite file. It may hold a password."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home(root) / 'mlflow.db'}"


def lock(root: Path) -> dict[str, Any]:
    """The stages of `dvc.lock` by name, e.g. `train@lstm`; empty where there is none yet."""
    try:
        text = (root / "dvc.lock").read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the lock of a hundred stages takes the other a second
    return dict((yaml.load(text, Loader=loader) or {}).get("stages", {}))


def hashes(stages: Mapping[str, Any], stage: str, kind: str) -> dict[str, str]:
    """path -> DVC's md5 of the `deps` or `outs` of a stage, as far as the lock knows them."""
    return {item["path"]: item["md5"] for item in stages.get(stage, {}).get(kind, []) if "md5" in item}


def flat(values: Mapping[str, Any], joint: str = ".") -> dict[str, Any]:
    """{"a": {"b": 1}} as {"a.b": 1}; lists stay whole."""
    out: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            out.update({f"{key}{joint}{inner}": leaf for inner, leaf in flat(value, joint).items()})
        else:
            out[str(key)] = value
    return out


def name(text: str) -> str:
    """`text` as MLflow lets a metric, a param or a tag be called, e.g. chrF2++ as chrF2__."""
    return _NOT_IN_A_NAME.sub("_", text)[:250]


def texts(values: Mapping[str, Any]) -> dict[str, str]:
    """Nested settings as names and texts; what is no text is written as in JSON."""

    def text(value: Any) -> str:
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

    return {name(key): text(value) for key, value in flat(values).items()}


def settings(block: Mapping[str, Any]) -> dict[str, str]:
    """The params of an MLflow run, which can never change: all of the run's block but `search`, which training ignores."""
    return texts({key: value for key, value in block.items() if key != "search"})


def corpus_settings(stages: Mapping[str, Any], corpus: str) -> dict[str, str]:
    """The corpus's block of `params.yaml` as the lock's stages were run with it, under `corpus_settings.`."""
    found: dict[str, Any] = {}
    for stage in ("download", "tokenize", "vocab"):
        found.update(stages.get(f"{stage}@{corpus}", {}).get("params", {}).get("params.yaml", {}))
    return {f"corpus_settings.{key.removeprefix(f'corpora.{corpus}.')}": value for key, value in texts(found).items()}


def labels(run: str, block: Mapping[str, Any]) -> dict[str, str]:
    """The tags by which runs are picked out in the UI."""
    return {"dvc.stage": f"train@{run}", **{key: str(block[key]) for key in ("family", "task", "corpus") if key in block}}


def origin(root: Path) -> dict[str, str]:
    """Tags that say which commit of what is at work; empty outside git."""
    commit = _git(root, "rev-parse", "HEAD")
    changed = _git(
        root, "status", "--porcelain", "--untracked-files=no", "--", ".", ":(exclude)dvc.lock", ":(exclude)reports"
    )
    tags = {"mlflow.source.name": "seqline", "mlflow.source.type": "PROJECT", "seqline.project": home(root).name}
    if commit:
        tags |= {"mlflow.source.git.commit": commit, "seqline.dirty": "true" if changed else "false"}
    for variable, tag in (("DVC_EXP_NAME", "dvc.exp.name"), ("DVC_EXP_BASELINE_REV", "dvc.exp.baseline")):
        if os.environ.get(variable):
            tags[tag] = os.environ[variable]
    return tags


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "--no-optional-locks", "-C", str(root), *arguments]  # no lock: others may be committing
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
