"""A project small enough to be retrained in seconds: a classifier of reviews that lie in a folder of the user's own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
NAME = "classification-reviews"
LABELS = ("positive", "negative")
RUNS = ("mlp",)


def made(root: Path) -> Path:
    """A committed copy of this project whose one corpus is the folder `drop` in it, with few reviews to learn from."""
    root.mkdir(parents=True)
    for name in ("pipeline", "stages", ".dvc", "presets"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "cache", "tmp"))
    for name in ("dvc.yaml", "flow.yaml", "constraints.txt", ".gitignore", ".dvcignore"):
        shutil.copy(ROOT / name, root)
    (root / "data").mkdir()
    shutil.copy(ROOT / "data" / ".gitignore", root / "data")
    (root / "reports").mkdir()
    (root / "params.yaml").write_text(yaml.safe_dump(small(), sort_keys=False))
    for split, number in (("train", 30), ("valid", 60), ("test", 200)):
        drop(root, split, 0, number)
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "start"]):
        git(root, *words)
    return root


def small() -> dict[str, Any]:
    """The default params with one corpus of the user's own and one quick run."""
    content: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text())
    content["evaluation"]["bootstrap"] = 100
    corpus = content["corpora"]["toy_reviews"]
    content["corpora"] = {"reviews": corpus | {"source": {"path": "drop"}, "vocab": corpus["vocab"] | {"corpus": "reviews"}}}
    content["runs"] = {name: content["runs"][name] | {"corpus": "reviews"} for name in RUNS}
    return content


def drop(root: Path, split: str, first: int, last: int) -> None:
    """Append reviews to the folder: words that say their label, so that a few hundred teach what thirty cannot."""
    (root / "drop").mkdir(exist_ok=True)
    for label in LABELS:
        with (root / "drop" / f"{split}.{label}").open("a") as file:
            file.writelines(f"{review(split, label, number)}\n" for number in range(first, last))


def review(split: str, label: str, number: int) -> str:
    """One of 200 words that the label alone uses, among others."""
    mark = number * 7 % 200
    return f"{split} review {number % 11} has word{label}{mark} in it ."


def environment(root: Path, **more: str) -> dict[str, str]:
    """That of a command in the project: this environment's programs, the project's code, no telemetry."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT_", "MLFLOW_"))}
    return kept | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(root),
        "OMP_NUM_THREADS": "1",
        "PREFECT_HOME": str(root.parent / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        **{f"GIT_{who}_{what}": f"t@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
        **more,
    }


def git(root: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=root, env=environment(root), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def seqline(root: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    """The command in the project."""
    return subprocess.run(command(*words), cwd=root, env=environment(root, **more), capture_output=True, text=True)


def command(*words: str) -> list[str]:
    program = f"import sys; from pipeline.cli import main; sys.argv = ['seqline', *{list(words)!r}]; main()"
    return [sys.executable, "-c", program]
