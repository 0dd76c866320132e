"""The real stages as forks (`run.dvc: patched`) and as new Pythons (`plain`): the same bytes."""

import shutil
import threading
from pathlib import Path

import pytest
import settings_blocks
import yaml

from pipeline.core import state_dir
from pipeline.dag import run_settings, run_stage
from pipeline.dag.dvc_runner import open_runner

ROOT = Path(__file__).resolve().parents[2]
RUN = "transformer"
CORPUS = "toy_en_fr"
ADDRESSES = [
    *(f"{stage}@{CORPUS}" for stage in ("download", "tokenize", "vocab", "encode")),
    "scratch",
    *(f"{stage}@{RUN}" for stage in ("train", "predict", "evaluate")),
]
pytestmark = pytest.mark.long


def make(root: Path) -> Path:
    """A project with this code, one small corpus and one small run; without Git."""
    root.mkdir()
    for name in ("pipeline", "stages", "presets"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", "flow.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, root)
    (root / ".dvc").mkdir()
    (root / ".dvc/config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
    (root / "reports").mkdir()

    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    content["evaluation"]["bootstrap"] = 100
    corpus = content["corpora"][CORPUS]
    corpus["source"]["builtin"]["sizes"] = {"train": 200, "valid": 20, "test": 20, "test_long": 20}
    run = settings_blocks.joined(content)[RUN]
    run["training"]["max_epochs"] = 1
    content |= {"corpora": {CORPUS: corpus}, "runs": {RUN: run}}
    (root / "params.yaml").write_text(
        yaml.safe_dump(settings_blocks.split(content), sort_keys=False)
    )
    return root


def results(root: Path) -> dict[str, bytes]:
    """`dvc.lock` and the outputs, by path."""
    files = [root / "dvc.lock", *(root / "data").rglob("*"), *(root / "reports").rglob("*")]
    return {str(file.relative_to(root)): file.read_bytes() for file in files if file.is_file()}


def test_forks_leave_the_bytes_of_new_pythons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEQLINE_TRACKING", "off")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    left = {}
    for dvc in ("patched", "plain"):
        root = make(tmp_path / dvc)
        flow = root / "flow.yaml"
        flow.write_text(flow.read_text().replace("dvc: patched", f"dvc: {dvc}"))
        rules = run_settings.load(root)
        with open_runner(root, []) as runner:
            runner.plan()
            for address in ADDRESSES:
                log = root / "logs" / address
                env = {"SEQLINE_SAVE_SECONDS": "1"}
                stop = threading.Event()
                result = run_stage.run(runner, address, env, log, rules, stop, lambda _: None)
                assert result.state == "ran", log.read_text()
        left[dvc] = results(root)

    log = tmp_path / "patched" / state_dir.FORK_SERVER_LOG
    modules = [line.partition(" in the fork ")[0] for line in log.read_text().splitlines()]
    assert modules == [f"stages.{address.partition('@')[0]}" for address in ADDRESSES]
    assert left["patched"] == left["plain"]
    assert {f"data/models/{RUN}/model.safetensors", f"data/scores/{RUN}/test.parquet"} <= left[
        "plain"
    ].keys()
