"""`dvc exp run` in copies that DVC deletes, by the real DVC on a DAG of three small stages: every
experiment is recorded, whatever becomes of its follower."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tracking_project import TOP, all_runs, empty_store, parents, run_block

from pipeline import tracking
from pipeline.tracking import artifacts, experiments, mlflow_store, run_names, spools
from pipeline.tracking.run_outputs import VERSION

__all__ = ["empty_store"]  # a fixture

SETTING = {
    "model": {"hidden": 8},
    "objective": {"steps": 4},
    "optim": {"name": "adam"},
    "training": {"max_epochs": 1},
    "search": {"beam": 1},
}
PARAMS = {
    "corpora": {"toy": {"text": {"lowercase": False}}},
    "settings": {"lstm": SETTING},
    "runs": {
        f"lstm-{seed}": {
            key: value for key, value in run_block(seed=seed).items() if key not in SETTING
        }
        for seed in (1, 2)
    },
}
# As dvc.yaml of the project: the options name the outputs, and a stage knows its run by DVC.
DAG = """
stages:
  tokenize:
    foreach: ${corpora}
    do:
      cmd: python stage.py tokenize --out data/tokens/${key}
      params: ["corpora.${key}.text"]
      outs: ["data/tokens/${key}"]
  train:
    foreach: ${runs}
    do:
      cmd: python stage.py train --out data/models/{run}
      deps: ["data/tokens/${item.corpus}"]
      params: ["runs.${key}", "settings.${item.setting}.model"]
      outs: ["data/models/${key}"]
  predict:
    foreach: ${runs}
    do:
      cmd: python stage.py predict --out data/predictions/{run}
      deps: ["data/models/${key}"]
      params: ["runs.${key}.setting", "settings.${item.setting}.search"]
      outs: ["data/predictions/${key}"]
  evaluate:
    foreach: ${runs}
    do:
      cmd: python stage.py evaluate --metrics reports/metrics/{run}.json --plots reports/plots/{run}
      deps: ["data/models/${key}", "data/predictions/${key}"]
      params: ["corpora.${item.corpus}"]
      outs: ["reports/metrics/${key}.json", "reports/plots/${key}/history.csv"]
  report:
    cmd: python stage.py report --figures reports/figures
    deps: [reports/metrics]
    outs: [reports/figures]
"""
STAGE = """
import dataclasses, hashlib, json, os, sys
from pathlib import Path
import pyarrow as pa
from pipeline import tracking
from pipeline.core import config, params, tables
from pipeline.tracking import live_log

if os.environ.get("FOLLOWER") == "never":  # as on a machine that gives it no processor
    live_log._start_follower = lambda *_: None
kind, run = sys.argv[1], os.environ["DVC_STAGE"].partition("@")[2]
out = {sys.argv[i]: Path(sys.argv[i + 1].replace("{run}", run)) for i in range(2, len(sys.argv), 2)}
if kind == "tokenize":
    out["--out"].parent.mkdir(parents=True, exist_ok=True)
    corpus = config.section(Path("params.yaml"), "corpora.toy")
    out["--out"].write_text(json.dumps(corpus))
elif kind == "train":
    block = dataclasses.asdict(params.run(Path("params.yaml"), run))
    trained = {key: value for key, value in block.items() if key != "search"}
    read = Path("data/tokens/toy").read_text()
    digest = hashlib.sha256((json.dumps(trained) + read).encode()).hexdigest()
    work = out["--out"]
    work.mkdir(parents=True)
    with tracking.live(
        run=run, digest=digest, work=Path(os.environ["TMPDIR"]), root=Path("."), params=block,
        tags={"device": "cpu"},
    ) as log:
        for step in range(1, 5):
            log({"train/loss": 1 / step}, step)
    facts = {"run": trained, "digest": digest, "parameters": 9, "best_step": 4}
    (work / "config.json").write_text(json.dumps(facts))
    rows = [{"step": s, "epoch": 0, "name": "train/loss", "value": 1 / s} for s in range(1, 5)]
    tables.write(work / "history.parquet", pa.Table.from_pylist(rows, tables.HISTORY))
    (work / "model.safetensors").write_bytes(digest.encode())
elif kind == "predict":
    out["--out"].mkdir(parents=True)
    beam = config.section(Path("params.yaml"), "settings.lstm.search.beam")
    sample = {"row": 0, "prompt": run, "reference": "a", "text": "b", "log_prob": -beam}
    table = pa.Table.from_pylist([sample], tables.SAMPLES)
    tables.write(out["--out"] / "samples.parquet", table)
elif kind == "evaluate":
    facts = json.loads(Path(f"data/models/{run}/config.json").read_text())
    score = 100 - facts["run"]["model"]["hidden"] + int(run[-1])
    lowercase = config.section(Path("params.yaml"), "corpora.toy.text.lowercase")
    beam = config.section(Path("params.yaml"), "settings.lstm.search.beam")
    score -= 40 * lowercase + 0.25 * (beam - 1)
    estimate = {"score": score, "low": score - 1, "high": score + 1}
    out["--metrics"].parent.mkdir(parents=True, exist_ok=True)
    out["--metrics"].write_text(json.dumps({"run": run, "test": {"perplexity": estimate}}))
    out["--plots"].mkdir(parents=True, exist_ok=True)
    (out["--plots"] / "history.csv").write_text("step,loss")
else:
    out["--figures"].mkdir()
"""


def run(root: Path, *command: str, **environment: str) -> str:
    result = subprocess.run(
        command,
        cwd=root,
        env={
            **{key: value for key, value in os.environ.items() if not key.startswith("DVC_EXP")},
            "PYTHONPATH": str(TOP),
            "TMPDIR": str(root / "tmp"),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "DVC_NO_ANALYTICS": "1",
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def git(root: Path, *words: str) -> str:
    return run(root, "git", "-c", "user.name=a", "-c", "user.email=a@b", *words).strip()


EXPERIMENTS = {
    "wide": "settings.lstm.model.hidden=16",
    "wider": "settings.lstm.model.hidden=32",
    "lower": "corpora.toy.text.lowercase=true",
    "beam9": "settings.lstm.search.beam=9",
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Path:
    """A committed project whose followers never ran, and experiments in deleted copies."""
    root = tmp_path_factory.mktemp("repository")
    (root / "tmp").mkdir()
    (root / "mlflow.db").write_bytes(empty_store.read_bytes())
    (root / "stage.py").write_text(STAGE)
    (root / "dvc.yaml").write_text(DAG)
    (root / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    (root / ".gitignore").write_text("/tmp\n/.seqline\n/mlflow.db\n/mlartifacts\n/data\n/reports\n")
    git(root, "init", "-q")
    run(root, "dvc", "init", "-q")
    run(root, "dvc", "repro", "-q", FOLLOWER="never")
    git(root, "add", ".")
    git(root, "commit", "-qm", "baseline")
    for name, change in EXPERIMENTS.items():
        run(root, "dvc", "exp", "run", "--temp", "-n", name, "-S", change, FOLLOWER="never")
    return root


@pytest.fixture
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("MLFLOW_TRACKING_URI", "SEQLINE_TRACKING", "DVC_ROOT", "DVC_EXP_NAME"):
        monkeypatch.delenv(variable, raising=False)


@pytest.mark.long
def test_experiments_in_deleted_copies_are_recorded_with_names_scores_and_times(
    repository: Path, no_settings: None
) -> None:
    times = {spool.key: (spool.start, spool.active) for spool in spools.pending(repository)}
    assert len(times) == 8, "beam9 trains nothing"
    assert not list((repository / ".dvc/tmp/exps").glob("*/*/stage.py")), "DVC keeps its copies"

    message = tracking.sync(repository)
    assert "experiment wide: recorded lstm-1, lstm-2" in message
    client = mlflow_store.connect(repository)
    by_name = {run_names.without_score(run.info.run_name): run for run in all_runs(client)}
    labels = ("", " hidden=16", " hidden=32", " lowercase=true")
    assert set(by_name) == {f"lstm-{seed}{label}" for seed in (1, 2) for label in labels}
    for label, hidden, name in (("", 8, None), (" hidden=16", 16, "wide")):
        for seed in (1, 2):
            run = by_name[f"lstm-{seed}{label}"]
            assert run.info.status == "FINISHED"
            assert run.data.metrics["score"] == 100 - hidden + seed
            assert run.data.params["model.hidden"] == str(hidden)
            assert run.data.tags.get("dvc.exp.name") == name
            folder = artifacts._local_path(repository, run.info.artifact_uri)
            names = {path.name for path in folder.iterdir()}
            assert {"provenance.json", "scores.json", "samples.json", "plots"} <= names

    titles = [run.info.run_name for run in parents(client)]
    assert any(title.startswith("69.50 · ") for title in titles), titles
    settings = {
        run_names.without_score(run.info.run_name): run.data.metrics for run in parents(client)
    }
    assert settings.keys() == {f"lstm{label}" for label in labels}
    assert settings["lstm"]["score"] == 93.5, "without the runs on another corpus"
    assert settings["lstm lowercase=true"]["score"] == 53.5
    assert settings["lstm hidden=32"]["score"] == 69.5
    assert settings["lstm hidden=32"]["seeds"] == 2.0
    assert round(settings["lstm hidden=32"]["score_deviation"], 3) == 0.707

    for seed in (1, 2):
        lowered = by_name[f"lstm-{seed} lowercase=true"]
        assert lowered.data.params["corpus_settings.text.lowercase"] == "true"
        assert lowered.data.tags["mlflow.source.git.commit"] == git(repository, "rev-parse", "HEAD")

    for _ in range(2):
        before = (repository / "mlflow.db").read_bytes()
        assert "recorded" not in tracking.sync(repository)
        assert (repository / "mlflow.db").read_bytes() == before
    for run in all_runs(client):
        key = run.data.tags["seqline.run"], run.data.tags["seqline.digest"]
        start, active = times[key]
        assert (run.info.start_time, run.info.end_time - run.info.start_time) == (start, active)


@pytest.mark.long
def test_an_experiment_is_read_once_for_each_store(
    repository: Path, no_settings: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that has changed only the search, whose runs are the project's."""
    clone = tmp_path / "clone"
    run(repository, "cp", "-a", str(repository), str(clone))
    tracking.sync(clone)
    record = experiments.RecordedExperiments(clone)
    counts = {
        experiment.name: len(record.run_ids(VERSION, experiment) or [])
        for experiment in experiments.find(clone)
    }
    assert counts == dict.fromkeys(EXPERIMENTS, 2)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "paper")
    assert "experiment wide: recorded lstm-1, lstm-2" in tracking.sync(clone)
    run(clone, "rm", "-rf", str(clone / ".dvc/cache"))
    assert "not recorded" not in tracking.sync(clone)


@pytest.mark.long
def test_an_experiment_whose_outputs_are_gone_is_named(
    repository: Path, no_settings: None, tmp_path: Path
) -> None:
    clone = tmp_path / "clone"
    run(repository, "cp", "-a", str(repository), str(clone))
    for folder in (clone / ".dvc/cache", clone / "mlflow.db", clone / ".seqline"):
        run(clone, "rm", "-rf", str(folder))
    message = tracking.sync(clone)
    assert "experiment wide: not recorded: " in message
    assert "no such output" in message
    assert "lstm-1: recorded" in message, "the project's own runs are"


def test_outside_of_git_there_are_no_experiments(tmp_path: Path) -> None:
    assert experiments.find(tmp_path) == []
