"""Damaged outputs of train, predict and evaluate: who reads them says so in one line, or comes to
the same result."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import retrain_project
import stage_runs
from long_cases import mostly_long

from pipeline.core.errors import exit_with

STAGES = (
    *((stage, "reviews") for stage in ("download", "tokenize", "vocab", "encode")),
    ("scratch", ""),
    *((stage, "mlp") for stage in ("train", "predict", "evaluate")),
    ("report", ""),
)
READERS = {
    "data/models/mlp": ("predict", "evaluate"),
    "data/predictions/mlp": ("evaluate", "report"),
    "data/scores/mlp": ("report",),
    "reports/metrics": ("report",),
    "reports/plots/mlp": ("report",),
}


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def overwritten(file: Path) -> None:
    file.write_bytes(b"\xff\xfe\x00garbage" + bytes(range(256)))


def flipped(file: Path) -> None:
    content = bytearray(file.read_bytes())
    for place in range(len(content) // 3, len(content), max(1, len(content) // 5)):
        content[place] ^= 0x91
    file.write_bytes(content)


def removed(file: Path) -> None:
    file.unlink()


def a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def a_list(file: Path) -> None:
    file.write_text("[1, 2]\n")


def brackets(file: Path) -> None:
    file.write_text("[" * 100_000)


def an_object(file: Path) -> None:
    file.write_text(
        '{"train": 5, "test": [], "run": "x", "sizes": null, "task": "classification", '
        '"corpus": "reviews"}\n'
    )


DAMAGES: tuple[Callable[[Path], None], ...] = (
    emptied,
    cut,
    overwritten,
    flipped,
    removed,
    a_folder,
    a_list,
    brackets,
    an_object,
)
QUICK = (cut, a_list)  # of `make test`


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = retrain_project.create(tmp_path_factory.mktemp("damaged") / "project")
    for stage, key in STAGES:
        stage_runs.run(root, stage, key)
    return root


@pytest.fixture
def project(trained: Path, tmp_path: Path) -> Path:
    """The trained project, to be damaged."""
    root = tmp_path / "project"
    shutil.copytree(
        trained, root, ignore=shutil.ignore_patterns(".git", "pipeline", "stages", "cache")
    )
    return root


def digest(root: Path, stage: str, key: str) -> str:
    """Of all that the stage writes."""
    outs = stage_runs.outs(root, stage, key)
    files = [file for out in outs for file in [out, *sorted(out.rglob("*"))] if file.is_file()]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def files() -> list[str]:
    """The files that the stages read, by their place in the project."""
    models = ("config.json", "history.parquet", "model.safetensors")
    tables = ("test.parquet", "valid.parquet")
    return [
        *(f"data/models/mlp/{name}" for name in models),
        *(f"data/predictions/mlp/labels_{name}" for name in tables),
        "data/predictions/mlp/labels.json",
        "data/predictions/mlp/model.json",
        "data/predictions/mlp/samples.parquet",
        *(f"data/scores/mlp/{name}" for name in tables),
        "reports/metrics/mlp.json",
        *(f"reports/plots/mlp/{name}.csv" for name in ("history", "training", "by_length")),
    ]


@pytest.mark.parametrize(
    "damage", mostly_long(DAMAGES, QUICK.__contains__, lambda damage: damage.__name__)
)
@pytest.mark.parametrize("name", files())
def test_a_damaged_file_is_named_in_one_line_or_changes_nothing(
    name: str,
    damage: Callable[[Path], None],
    trained: Path,
    project: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    if damage is flipped and name.endswith(".safetensors"):
        pytest.skip(
            "other weights are weights too: their md5 tells, which DVC and `seqline repair` look at"
        )
    assert (project / name).is_file()
    damage(project / name)
    for folder, stages in READERS.items():
        for stage in stages if name.startswith(folder) else ():
            key = "" if stage == "report" else "mlp"
            before = digest(project, stage, key)
            capfd.readouterr()
            status = 0
            try:
                exit_with(lambda stage=stage, key=key: stage_runs.run(project, stage, key))  # type: ignore[misc]
            except SystemExit as end:
                status = int(end.code or 0)
            said = [
                line for line in capfd.readouterr().err.splitlines() if line.startswith("seqline: ")
            ]
            if status == 0:
                assert digest(project, stage, key) == before, f"{stage} used it silently"
            else:
                assert status == 2
                assert len(said) == 1, said
                assert Path(name).name in said[0] or Path(name).parent.name in said[0], said


@pytest.mark.parametrize(
    "key", ["parameters", "test.accuracy", "test.accuracy.score", "test.f1.low", "valid.rows"]
)
@pytest.mark.parametrize("value", ["x", None, [], True, ...], ids=str)
def test_a_metric_that_is_no_number_is_refused_by_its_key(
    key: str, value: object, project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = project / "reports/metrics/mlp.json"
    metrics = json.loads(path.read_text(encoding="utf-8"))
    here, *above = metrics, *key.split(".")
    for name in above[:-1]:
        here = here[name]
    assert above[-1] in here
    if value is ... and key in ("test.accuracy", "valid.rows"):
        return  # a run may lack a metric
    here.pop(above[-1]) if value is ... else here.update({above[-1]: value})
    path.write_text(json.dumps(metrics), encoding="utf-8")
    with pytest.raises(SystemExit, match=r"^2$"):
        exit_with(lambda: stage_runs.run(project, "report", ""))
    expected = "got no number; expected what evaluate writes. Remove it. Run `dvc repro`."
    said = [line for line in capfd.readouterr().err.splitlines() if line.startswith("seqline: ")]
    assert said == [f"seqline: reports/metrics/mlp.json: {key}: {expected}"]


@pytest.mark.parametrize("name", ["history", "by_length"])
def test_a_cell_of_a_plot_that_is_no_number_is_refused(
    name: str, project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = project / f"reports/plots/mlp/{name}.csv"
    content = path.read_text(encoding="utf-8")
    path.write_text(content.removesuffix("\n") + " 5\n", encoding="utf-8")
    with pytest.raises(SystemExit, match=r"^2$"):
        exit_with(lambda: stage_runs.run(project, "report", ""))
    said = [line for line in capfd.readouterr().err.splitlines() if line.startswith("seqline: ")]
    assert len(said) == 1
    assert said[0].startswith(
        f"seqline: reports/plots/mlp/{name}.csv: got a table that is cut off or damaged; "
    )
