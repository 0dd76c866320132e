"""The real `dvc.yaml` under a real DVC, on the built-in corpus at a small size: reproducible,
cached, and safe to kill."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import default_params
import pytest
import yaml
from mlflow import MlflowClient
from tracking_project import all_runs

from pipeline.core import tables
from pipeline.core.errors import UserError
from pipeline.dag import refresh
from pipeline.training import resume_state

ROOT = Path(__file__).resolve().parents[2]
SIZES = {"train": 600, "valid": 40, "test": 40, "test_long": 20}
KEPT = ("seq2seq", "transformer")
pytestmark = pytest.mark.long


def git(root: Path, *arguments: str) -> None:
    subprocess.run(
        ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments],
        cwd=root,
        check=True,
    )


def small(root: Path) -> None:
    """The default params with small corpora, small models and one epoch."""
    content = default_params.load()
    content["evaluation"]["bootstrap"] = 100
    content["corpora"] = {"toy_en_fr": content["corpora"]["toy_en_fr"]}
    content["runs"] = {name: run for name, run in content["runs"].items() if name in KEPT}
    default_params.shrink(content, SIZES)
    for run in content["runs"].values():
        if "max_length" in run["search"]:
            run["search"]["max_length"] = 8
    # many steps: time to be killed between two of them
    content["runs"]["transformer"]["objective"]["batch_tokens"] = 70
    default_params.write(root, content)


def copied(root: Path) -> Path:
    """A committed copy of this project with small params, and DVC ready in it."""
    root.mkdir()
    for name in ("pipeline", "stages", ".dvc"):
        shutil.copytree(
            ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "cache", "tmp")
        )
    for name in ("dvc.yaml", "params.yaml", "flow.yaml", ".gitignore", ".dvcignore"):
        shutil.copy(ROOT / name, root)
    (root / "data").mkdir()
    shutil.copy(ROOT / "data" / ".gitignore", root / "data")
    (root / "reports").mkdir()
    small(root)
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "start")
    return root


def environment(root: Path) -> dict[str, str]:
    binaries = str(Path(sys.executable).parent)
    return os.environ | {
        "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(root),
        "SEQLINE_TRACKING": "off",
        "OMP_NUM_THREADS": "1",
    }


def dvc(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["dvc", *arguments], cwd=root, env=environment(root), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def lock(root: Path) -> bytes:
    return (root / "dvc.lock").read_bytes()


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy on which the whole DAG has run once."""
    root = copied(tmp_path_factory.mktemp("dag") / "project")
    dvc(root, "repro")
    return root


@pytest.fixture
def edited(done: Path) -> Iterator[Callable[[str, str], None]]:
    """`edited(path, text)` appends to a file of the project until the test's end."""
    before: dict[Path, str] = {}

    def append(path: str, text: str) -> None:
        before[done / path] = (done / path).read_text()
        (done / path).write_text(before[done / path] + text)

    yield append
    for path, content in before.items():
        path.write_text(content)


def test_a_comparison_of_every_run_comes_out(done: Path) -> None:
    table = (done / "reports/comparison.md").read_text()
    assert all(f"{name} " in table or f"`{name}`" in table for name in KEPT)
    assert (done / "reports/index.html").stat().st_size > 10_000


def test_a_second_repro_does_nothing(done: Path) -> None:
    before = lock(done)
    assert "Data and pipelines are up to date" in dvc(done, "repro")
    assert lock(done) == before


def test_compiled_code_beside_the_source_is_no_dependency(done: Path) -> None:
    assert any((done / "pipeline").rglob("__pycache__/*.pyc")), "the stages have left none"
    stages = yaml.safe_load(lock(done))["stages"].values()
    counted = {
        dep["path"]: dep["nfiles"]
        for stage in stages
        for dep in stage["deps"]
        if dep["path"].startswith("pipeline/") and "nfiles" in dep
    }
    assert "pipeline/nn" in counted
    for path, files in counted.items():
        source = [
            file
            for file in (done / path).rglob("*")
            if file.is_file() and "__pycache__" not in file.parts
        ]
        assert files == len(source), path


def test_doing_everything_again_gives_the_same_bytes(done: Path) -> None:
    before = lock(done)
    dvc(done, "repro", "-f")
    assert lock(done) == before


@pytest.mark.parametrize(
    ("path", "runs"),
    [
        ("pipeline/models/transformer.py", {"transformer"}),
        ("pipeline/models/seq2seq.py", {"seq2seq"}),
        ("pipeline/tasks/translation.py", {"seq2seq", "transformer"}),
    ],
)
def test_an_edit_to_a_family_or_task_concerns_its_runs_alone(
    done: Path, edited: Callable[[str, str], None], path: str, runs: set[str]
) -> None:
    edited(path, "# touched\n")
    status = yaml.safe_load(dvc(done, "status", "--json"))
    assert {name.partition("@")[2] for name in status if "@" in name} == runs
    assert {name.partition("@")[0] for name in status} <= {"train", "predict"}


def test_where_it_runs_is_no_parameter(done: Path) -> None:
    params = done / "params.yaml"
    before = params.read_text()
    params.write_text(
        before.replace("device: auto", "device: cpu").replace("workers: 1", "workers: 2")
    )
    assert dvc(done, "status").strip() == "Data and pipelines are up to date."
    params.write_text(before)


def test_a_second_clone_has_everything_after_a_pull_and_runs_nothing(
    done: Path, tmp_path: Path
) -> None:
    dvc(done, "remote", "add", "--default", "--force", "shared", str(tmp_path / "remote"))
    git(done, "add", ".")
    git(done, "commit", "-q", "-m", "results")
    dvc(done, "push")
    second = tmp_path / "second"
    git(tmp_path, "clone", "-q", str(done), str(second))
    assert not (second / "data/models").exists()
    dvc(second, "pull")
    shutil.rmtree(tmp_path / "remote")
    said = dvc(second, "repro")
    assert "Running stage" not in said
    assert "Data and pipelines are up to date" in said
    assert lock(second) == lock(done)
    for name in KEPT:
        model = f"data/models/{name}/model.safetensors"
        assert (second / model).read_bytes() == (done / model).read_bytes()
    assert_history_is_shown(second)


def assert_history_is_shown(root: Path) -> None:
    """`seqline sync` in a clone that has never trained: every run with its curves and its
    scores."""
    inside = {
        name: value for name, value in environment(root).items() if not name.startswith("MLFLOW_")
    }
    program = (
        "from pathlib import Path; from pipeline import tracking; print(tracking.sync(Path()))"
    )
    said = subprocess.run(
        ["python", "-c", program], cwd=root, env=inside, capture_output=True, text=True, check=True
    ).stdout
    assert f"MLflow is up to date: {len(KEPT)} of {len(KEPT)} runs; {len(KEPT)} new or" in said
    client = MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    runs = all_runs(client)
    assert {run.data.tags["seqline.run"] for run in runs} == set(KEPT)
    for run in runs:
        folder = root / "data/models" / run.data.tags["seqline.run"]
        history = tables.read(folder / "history.parquet", tables.HISTORY).to_pylist()
        assert {row["name"] for row in history} >= {"valid/loss", "valid/perplexity"}
        for name in {row["name"] for row in history} & {
            "train/loss",
            "learning_rate",
            "valid/loss",
        }:
            wanted = sorted((row["step"], row["value"]) for row in history if row["name"] == name)
            shown = client.get_metric_history(run.info.run_id, name)
            assert sorted((point.step, point.value) for point in shown) == wanted
        assert run.data.metrics["score"] == run.data.metrics["test/bleu"]


# what is there once a stage is at work, and whether the stage is killed with dvc or left an orphan
STARTED = {
    "data/raw/.toy_en_fr.partial/*": True,
    "data/tokens/.toy_en_fr.partial/*": False,
    ".seqline/training/transformer-*/state.safetensors": True,
}


def test_next_repro_recovers_from_a_kill_at_any_stage(done: Path, tmp_path: Path) -> None:
    root = copied(tmp_path / "killed")
    for sign, whole_group in STARTED.items():
        running = subprocess.Popen(
            ["dvc", "repro"],
            cwd=root,
            env=environment(root) | {"SEQLINE_SAVE_SECONDS": "0"},
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while not list(root.glob(sign)):
            assert running.poll() is None, f"repro ended before {sign} was seen"
            time.sleep(0.01)
        if whole_group:
            os.killpg(running.pid, signal.SIGKILL)
        else:
            running.kill()
        running.wait()
        assert not list(root.glob("data/models/transformer"))
    [state] = root.glob(".seqline/training/transformer-*/state.safetensors")
    step = resume_state.load(state)[1]["step"]
    assert f"transformer: resuming from step {step}\n" in dvc(root, "--wait-for-lock", "repro")
    assert lock(root) == lock(done)


ALL_OF_IT = """
import sys
from pathlib import Path
import stage_runs

for address in sys.argv[1:]:
    stage, _, key = address.partition("@")
    stage_runs.run(Path.cwd(), stage, key)
"""
# beside the translators above
ONE_OF_EACH_TASK = ("lstm", "bidirectional", "skip_gram", "bert", "text_cnn")


def held(root: Path) -> dict[str, bytes]:
    files = [
        file for name in ("data", "reports") for file in (root / name).rglob("*") if file.is_file()
    ]
    return {str(file.relative_to(root)): file.read_bytes() for file in files}


def test_every_task_gives_the_same_bytes_in_another_process_and_place(tmp_path: Path) -> None:
    """All stages by their commands, without DVC, which would start Python for each of them; with
    other hashes of strings."""
    content = default_params.load()
    content["evaluation"]["bootstrap"] = 20
    content["runs"] = {name: content["runs"][name] for name in ONE_OF_EACH_TASK}
    # Those of the preset `book` have such tests beside their stages.
    tasks = {file.stem for file in (ROOT / "pipeline" / "tasks").glob("*.py")} - {
        "__init__",
        "translation",
        "series",
        "image_classification",
        "pair_classification",
    }
    assert {run["task"] for run in content["runs"].values()} == tasks
    del content["corpora"]["toy_en_fr"]
    default_params.shrink(content, {"train": 200, "valid": 40, "test": 40})
    addresses = [
        f"{stage}@{key}"
        for stage in ("download", "tokenize", "vocab", "encode")
        for key in content["corpora"]
    ]
    addresses += [
        "scratch",
        *(
            f"{stage}@{key}"
            for key in content["runs"]
            for stage in ("train", "predict", "evaluate")
        ),
    ]
    started = []
    for number in ("1", "2"):
        root = tmp_path / number
        root.mkdir()
        default_params.write(root, content)
        path = f"{ROOT}{os.pathsep}{ROOT / 'tests/helpers'}"
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", ALL_OF_IT, *addresses, "report"],
                cwd=root,
                env=environment(root) | {"PYTHONPATH": path, "PYTHONHASHSEED": number},
                stdout=subprocess.DEVNULL,
            )
        )
    assert [process.wait() for process in started] == [0, 0]
    one, other = held(tmp_path / "1"), held(tmp_path / "2")
    assert {f"data/models/{name}/model.safetensors" for name in ONE_OF_EACH_TASK} | {
        "reports/index.html"
    } <= one.keys()
    assert one == other


def test_refresh_copies_only_changed_files(tmp_path: Path, monkeypatch) -> None:
    root = copied(tmp_path / "project")
    content = yaml.safe_load((root / "params.yaml").read_text())
    own = content["corpora"]["toy_en_fr"] | {"source": {"path": "drop"}}
    content["corpora"]["own"] = own | {"vocab": own["vocab"] | {"corpus": "own"}}
    (root / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    (root / "drop").mkdir()
    (root / "drop" / "train.en").write_text("one\n")
    for name, value in environment(root).items():
        monkeypatch.setenv(name, value)
    assert not refresh.refresh(root).changed  # never downloaded: nothing to take over anew
    dvc(root, "repro", "download@own", "download@toy_en_fr")
    before = lock(root)
    assert not refresh.refresh(root).changed
    os.utime(root / "drop" / "train.en")  # a later date alone is no change
    assert not refresh.refresh(root).changed
    assert lock(root) == before
    (root / "drop" / "train.fr").write_text("un\n")
    assert list(refresh.compare_sources(root).changed) == ["own"]
    assert list(refresh.refresh(root).changed) == ["own"]
    assert (root / "data/raw/own/train.fr").read_text() == "un\n"
    assert lock(root) != before
    assert not refresh.refresh(root).changed
    shutil.rmtree(root / "drop")
    with pytest.raises(
        UserError, match=r"^corpora\.own\.source\.path: got .*drop; expected a file or folder"
    ):
        refresh.refresh(root)
