"""Two trained runs against each other through the project's own stages: what is asked, compared, kept, and refused."""

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stage_runs
import yaml
from safetensors.numpy import load_file, save_file

from pipeline.errors import UserError
from pipeline.gate import Contender, Decision, challenge
from pipeline.gate.commands import Commands
from pipeline.gate.settings import Settings, load

ROOT = Path(__file__).resolve().parent.parent
SIZES = {"train": 500, "valid": 40, "test": 120, "test_long": 30}
RUNS = {"birnn": "toy_reviews", "seq2seq": "toy_en_fr", "gru": "toy_story", "skip_gram": "toy_story", "bert": "toy_story"}
LOCK = threading.Lock()


def small() -> dict[str, Any]:
    """The default params with small corpora and few small runs; `chars` reads the stories letter by letter."""
    content = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    corpora = {name: content["corpora"][name] for name in ("toy_reviews", "toy_en_fr", "toy_story")}
    for corpus in corpora.values():
        sizes = corpus["source"]["builtin"]["sizes"]
        corpus["source"]["builtin"]["sizes"] = {split: SIZES[split] for split in sizes}
    story = corpora["toy_story"]
    for name, text, minimum in (("frequent", {}, 12), ("chars", {"level": "char"}, 1), ("lower", {"lowercase": True}, 1)):
        vocab = story["vocab"] | {"corpus": name, "min_count": minimum}
        corpora[name] = story | {"text": story["text"] | text, "vocab": vocab}
    runs = {name: content["runs"][name] | {"corpus": corpus} for name, corpus in RUNS.items()}
    for run in runs.values():
        run["training"] |= {"max_epochs": 2, "patience": None}
        run["model"] |= {key: 16 for key in ("embedding", "hidden", "width", "feed_forward") if key in run["model"]}
    runs["seq2seq"]["search"] |= {"max_length": 10}
    runs |= {name: runs["gru"] | {"corpus": name} for name in ("frequent", "chars", "lower")}
    content["evaluation"]["bootstrap"], content["compute"]["device"] = 100, "cpu"
    return content | {"corpora": corpora, "runs": runs}


@dataclass
class Project:
    """A folder as DVC would leave it, whose runs are made when they are asked for, once."""

    root: Path
    done: set[str] = field(default_factory=set)

    @property
    def params(self) -> Path:
        return self.root / "params.yaml"

    def stage(self, name: str, key: str = "") -> None:
        if f"{name}@{key}" not in self.done:
            stage_runs.run(self.root, name, key)
            self.done.add(f"{name}@{key}")

    def corpus(self, name: str) -> Path:
        for stage in ("download", "tokenize", "vocab", "encode"):
            self.stage(stage, name)
        return self.root / "data/tokens" / name

    def contender(self, run: str) -> Contender:
        corpus = yaml.safe_load(self.params.read_text())["runs"][run]["corpus"]
        self.corpus(corpus)
        self.stage("scratch")
        self.stage("train", run)
        vocab = self.root / "data/vocab" / corpus
        return Contender(label=run, params=self.params, run=run, model=self.root / "data/models" / run, vocab=vocab)

    def scores(self, run: str) -> dict[str, Any]:
        self.contender(run)
        for stage in ("predict", "evaluate"):
            self.stage(stage, run)
        found: dict[str, Any] = json.loads((self.root / f"reports/metrics/{run}.json").read_text())
        return found


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    root = tmp_path_factory.mktemp("challenge")
    (root / "params.yaml").write_text(yaml.safe_dump(small(), sort_keys=False), encoding="utf-8")
    for name in ("dvc.yaml", "flow.yaml"):
        shutil.copy(ROOT / name, root)
    (root / "presets").mkdir()
    return Project(root)


@pytest.fixture
def launched() -> list[str]:
    """The stages that a test's challenges have run, in their order."""
    return []


@pytest.fixture
def here(launched: list[str]) -> Callable[[Sequence[str], Path], int]:
    """Runs a stage in this process, for speed; a mistake's line goes to the log, as the stage's own process would say it."""

    def launch(command: Sequence[str], log: Path) -> int:
        module = command[2]
        with LOCK, pytest.MonkeyPatch.context() as patch:
            launched.append(module)
            patch.setattr("sys.argv", [module, *command[3:]])
            try:
                __import__(module, fromlist=["main"]).main()
            except UserError as error:
                log.write_text(f"seqline: {error}\n")
                return 2
        return 0

    return launch


@pytest.fixture
def settings() -> Settings:
    return replace(load(ROOT / "flow.yaml"), resamples=499)


@pytest.fixture
def against(project: Project, here, settings: Settings, tmp_path: Path) -> Callable[..., Decision]:
    """`against(champion, challenger, tokens, ...)`: the gate's decision, with the tests' own launch and work folder."""

    def run(champion: Contender | None, challenger: Contender, tokens: dict[str, Path], **changes: Any) -> Decision:
        given = {"settings": settings, "work": tmp_path / "work", "launch": here} | changes
        return challenge(project.root, champion, challenger, tokens, **given)

    return run


def spoilt(contender: Contender, folder: Path, noise: float, label: str = "spoilt") -> Contender:
    """The same run with noise on its weights: truly worse."""
    shutil.copytree(contender.model, folder)
    weights, rng = load_file(folder / "model.safetensors"), np.random.default_rng(1)
    noisy = {name: (w + noise * rng.normal(size=w.shape)).astype(w.dtype) for name, w in weights.items()}
    save_file(noisy, folder / "model.safetensors", {"facts": "{}"})
    return replace(contender, model=folder, label=label)


def only(tokens: Path) -> dict[str, Path]:
    return {"the test set": tokens}


def left_alive(marker: str) -> list[str]:
    found = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    return [line for line in found.splitlines() if marker in line]


# Through real processes


def test_the_command_compares_two_runs_and_promotes_nothing(project: Project, seqline, edited) -> None:
    """As a user runs it, stages as processes; again, nothing is asked anew."""
    worse = project.contender("birnn")
    content = yaml.safe_load(project.params.read_text())
    edited(project.root, "runs.worse", content["runs"]["birnn"])
    spoilt(worse, project.root / "data/models/worse", 2.0)
    said = seqline(project.root, "compare", "worse", "birnn")
    assert (said.status, said.err) == (0, "")
    assert said.out.startswith("# birnn takes the place of worse\n\nbirnn is promoted: better on the test set by ")
    before = {path: path.stat().st_mtime_ns for path in (project.root / ".seqline/gate/compare").glob("*/scores")}
    back = seqline(project.root, "compare", "birnn", "worse")
    assert "worse is not promoted: not significantly better on any test set" in back.out
    assert len(before) == 2
    assert {path: path.stat().st_mtime_ns for path in before} == before
    refused = seqline(project.root, "compare", "birnn", "gru")
    assert refused.status == 2
    assert refused.err.startswith("seqline: RUN: got gru, of language_model on toy_story; expected a run of classification")
    assert "RUN: got birn; expected one of" in seqline(project.root, "compare", "birn", "gru").err


def test_an_interruption_leaves_no_process_and_starts_no_other(tmp_path: Path) -> None:
    commands, statuses = Commands(tmp_path), []
    mark = f"import time; time.sleep(600) #{tmp_path}"

    def run() -> None:
        statuses.extend(commands([sys.executable, "-c", mark], tmp_path / "log") for _ in range(2))

    thread = threading.Thread(target=run)
    thread.start()
    while not left_alive(mark):
        time.sleep(0.02)
    commands.end()
    thread.join()
    assert len(statuses) == 2
    assert all(status < 0 for status in statuses)
    assert left_alive(mark) == []
