"""A project small enough to be retrained in seconds: a classifier of reviews that lie in a folder
of the user's own."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import fast_yaml
import flows
import settings_blocks

from benchmarks import made_dag

ROOT = Path(__file__).resolve().parents[2]
NAME = "classification-reviews"
LABELS = ("positive", "negative")
_COPIED = (
    "dvc.yaml",
    "flow.yaml",
    "constraints.txt",
    ".gitignore",
    ".dvcignore",
    "data/.gitignore",
)


def create(root: Path) -> Path:
    """A committed copy of this project whose one corpus is the folder `drop` in it, with too few
    reviews to learn from."""
    for name in ("pipeline", "stages", ".dvc", "presets"):
        shutil.copytree(
            ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "cache", "tmp")
        )
    for name in ("data", "reports"):
        (root / name).mkdir()
    for name in _COPIED:
        shutil.copy(ROOT / name, root / name)
    (root / "params.yaml").write_text(fast_yaml.dump(small()))
    for split, number in (("train", 20), ("valid", 40), ("test", 100)):
        drop(root, split, range(number))
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "start"]):
        git(root, *words)
    return root


def small() -> dict[str, Any]:
    """The default params with one corpus of the user's own and one quick run."""
    content: dict[str, Any] = fast_yaml.load((ROOT / "params.yaml").read_text())
    content["evaluation"]["bootstrap"] = 100
    corpus = content["corpora"]["toy_reviews"]
    content["corpora"] = {
        "reviews": corpus
        | {"source": {"path": "drop"}, "vocab": corpus["vocab"] | {"corpus": "reviews"}}
    }
    mlp = settings_blocks.joined(content)["mlp"]
    return settings_blocks.split(content | {"runs": {"mlp": mlp | {"corpus": "reviews"}}})


def drop(root: Path, split: str, numbers: range) -> None:
    """Append reviews to the folder. Each has one of 200 words that its label alone uses: what few
    have not shown."""
    (root / "drop").mkdir(exist_ok=True)
    for label in LABELS:
        with (root / "drop" / f"{split}.{label}").open("a") as file:
            file.writelines(
                f"review {n % 11} of {split} has {label}{n * 7 % 200} in it .\n" for n in numbers
            )


def settings(root: Path, **sections: dict[str, Any]) -> None:
    """Change keys of sections of flow.yaml."""
    content = fast_yaml.load((root / "flow.yaml").read_text())
    for name, keys in sections.items():
        content[name] |= keys
    (root / "flow.yaml").write_text(fast_yaml.dump(content))


def git(root: Path, *words: str) -> str:
    """What git says."""
    done = subprocess.run(
        ["git", *words], cwd=root, env=author(os.environ.copy()), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def author(env: dict[str, str]) -> dict[str, str]:
    """The environment with a name to commit under."""
    who = {
        f"GIT_{role}_{what}": "t@example.org"
        for role in ("AUTHOR", "COMMITTER")
        for what in ("NAME", "EMAIL")
    }
    return env | who | {"GIT_CONFIG_GLOBAL": os.devnull}


def retrain(root: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """`seqline retrain`, from start to end."""
    return flows.seqline(root, env, "retrain")


def retrainable(root: Path) -> Path:
    """Twelve stages of no work and no corpora, which a retraining goes through in a second."""
    made_dag.make(root, 0, 0)
    (root / "params.yaml").write_text(
        (root / "params.yaml").read_text() + "corpora: {}\nruns: {}\n"
    )
    (root / "flow.yaml").write_text((flows.ROOT / "flow.yaml").read_text())
    (root / "presets").mkdir(exist_ok=True)
    for words in (["add", "."], ["commit", "-q", "-m", "twelve stages"]):
        git(root, *words)
    return root
