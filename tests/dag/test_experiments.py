"""The walk of docs/experiments.md: DVC's commands in a real repository, on a small DAG of the
project's own stages."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import flows
import pytest
import retrain_project as small

from pipeline.flow import baseline

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]
RATE = "settings.mlp.optim.learning_rate"


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose results are committed as its baseline."""
    root = small.create(tmp_path_factory.mktemp("experiments") / "project")
    small.drop(root, "train", range(20, 400))
    small.git(root, "commit", "-q", "-a", "-m", "enough to learn from")
    dvc(root, "repro", "--quiet")
    small.git(root, "add", "dvc.lock", "reports")
    small.git(root, "commit", "-q", "-m", "Baseline")
    return root


@pytest.fixture
def root(committed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(committed, tmp_path / "project", symlinks=True))


def dvc(root: Path, *words: str, columns: int = 160) -> str:
    """What a dvc command prints."""
    env = small.author(flows.surroundings(root.parent, None)) | {"COLUMNS": str(columns)}
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *words], cwd=root, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def header(table: str) -> list[str]:
    """The columns of `dvc exp show` that fit into 160 characters."""
    return next(line for line in table.splitlines() if "Experiment" in line)[:160].split()


def scores(root: Path) -> dict[str, float]:
    return dict(json.loads((root / "reports/summary.json").read_text()))


def test_repeating_the_baseline_leaves_the_tree_clean(root: Path) -> None:
    assert small.git(root, "status", "--porcelain") == ""
    dvc(root, "repro", "--quiet", "--force")
    assert small.git(root, "status", "--porcelain") == ""
    assert baseline.note(root) == ""


def rates_of_scored_experiments(root: Path) -> list[float]:
    experiments = json.loads(dvc(root, "exp", "show", "--json"))[1]["experiments"]
    data = [experiment["revs"][0]["data"] for experiment in experiments]
    scored = [item for item in data if item["metrics"]["reports/summary.json"]["data"]]
    settings = [item["params"]["params.yaml"]["data"]["settings"]["mlp"] for item in scored]
    return sorted(block["optim"]["learning_rate"] for block in settings)


def test_the_walk_through_experiments(root: Path) -> None:
    before = scores(root)

    # Change one number.
    dvc(root, "exp", "run", "--name", "slow", "-S", f"{RATE}=0.0001")
    after = scores(root)
    assert after != before
    diff = dvc(root, "metrics", "diff", "--json")
    assert json.loads(diff) == {
        "reports/summary.json": {
            "mlp.accuracy": {
                "old": before["mlp.accuracy"],
                "new": after["mlp.accuracy"],
                "diff": pytest.approx(after["mlp.accuracy"] - before["mlp.accuracy"]),
            }
        }
    }
    assert json.loads(dvc(root, "params", "diff", "--json")) == {
        "params.yaml": {RATE: {"old": 0.01, "new": 0.0001, "diff": pytest.approx(-0.0099)}}
    }

    # The score is the first column after the name and the time.
    shown = dvc(root, "exp", "show", "--only-changed", "--drop", ".*/")
    assert header(shown) == ["Experiment", "Created", "mlp.accuracy", RATE]
    assert header(dvc(root, "exp", "show"))[:3] == ["Experiment", "Created", "mlp.accuracy"]

    # Charts of both revisions.
    page = dvc(root, "plots", "diff", "HEAD", "workspace").strip().removeprefix("file://")
    text = Path(page).read_text(encoding="utf-8")
    charts = [json.loads(spec) for spec in re.findall(r"var spec = (\{.*\});", text)]
    assert len(charts) == len(list((root / "reports/charts").rglob("*.csv"))) == 4
    for chart in charts:
        assert {row["rev"] for row in chart["data"]["values"]} == {"HEAD", "workspace"}

    # Back to the baseline: no model is lost.
    small.git(root, "stash", "-q")
    dvc(root, "checkout", "--quiet")
    assert scores(root) == before
    assert (root / "data/models/mlp/model.safetensors").is_file()
    assert small.git(root, "status", "--porcelain") == ""
    assert dvc(root, "status").strip() == "Data and pipelines are up to date."

    # A grid in the queue, whose experiments run in copies of the project.
    queue_message = dvc(root, "exp", "run", "--queue", "-S", f"{RATE}=0.001,0.003")
    assert queue_message.count("Queued experiment") == 2
    dvc(root, "exp", "run", "--run-all")
    assert rates_of_scored_experiments(root) == [0.0001, 0.001, 0.003]
    assert small.git(root, "status", "--porcelain") == "", "the workspace is as it was"

    # Keep one.
    dvc(root, "exp", "apply", "slow")
    assert scores(root) == after
    dvc(root, "exp", "branch", "slow", "slow-mlp")
    assert f'"mlp.accuracy": {after["mlp.accuracy"]}' in small.git(
        root, "show", "slow-mlp:reports/summary.json"
    )
    dvc(root, "exp", "remove", "--all-commits")
    assert dvc(root, "exp", "list", "--name-only").strip() == ""


def test_results_of_another_machine_are_compared_by_what_git_has(root: Path) -> None:
    """The cache has no output of the committed `dvc.lock`, as on a processor with other bits."""
    shutil.rmtree(root / ".dvc/cache")
    (root / "data/models/mlp/model.safetensors").chmod(0o644)
    params = root / "params.yaml"
    params.write_text(params.read_text().replace("rate: 0.01\n", "rate: 0.0001\n"))
    dvc(root, "repro", "--quiet")
    assert json.loads(dvc(root, "metrics", "diff", "--json"))
    done = dvc(root, "plots", "diff", "HEAD")
    assert "failed to load" not in done
    assert '"rev": "HEAD"' in Path(done.strip().removeprefix("file://")).read_text()
    assert baseline.note(root).startswith("5 outputs have changed since the last commit")
