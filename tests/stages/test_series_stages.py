"""A noisy sine and a noisy curve through the stages as DVC runs them, and numbers from users."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import settings_blocks
import stage_runs
import yaml

from pipeline.core.errors import UserError
from pipeline.predictions import TrainedRun
from pipeline.predictor import load_predictor
from pipeline.promotion import retokenize
from pipeline.text.encode import describe
from stages import encode

ROOT = Path(__file__).resolve().parents[2]
RUNS = {"noisy_sine": ("last_value", "linear_16", "mlp_4"), "noisy_curve": ("learned_width",)}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of the preset, small, from download to report."""
    root = tmp_path_factory.mktemp("series")
    shutil.copy(ROOT / "dvc.yaml", root)
    preset = ROOT / "presets/book.yaml"
    content: dict[str, Any] = yaml.safe_load(preset.read_text(encoding="utf-8"))
    blocks = settings_blocks.joined(content)
    content["runs"] = {name: blocks[name] for names in RUNS.values() for name in names}
    content["runs"]["mlp_4"]["training"] |= {"max_epochs": 10}
    content["corpora"] = {name: content["corpora"][name] for name in RUNS}
    sizes = {"train": 700, "valid": 300, "test": 800}
    content["corpora"]["noisy_sine"]["source"]["builtin"]["sizes"] = sizes
    content["evaluation"]["bootstrap"] = 50
    del content["shared"]
    text = yaml.safe_dump(settings_blocks.split(content), sort_keys=False)
    (root / "params.yaml").write_text(text, encoding="utf-8")
    stage_runs.run_dag(root, RUNS, content["runs"])
    return root


def metrics(project: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((project / f"reports/metrics/{name}.json").read_text())
    return content


def test_a_model_is_between_the_noise_and_persistence(project: Path) -> None:
    scores = {name: metrics(project, name)["test"] for name in RUNS["noisy_sine"]}
    limit = scores["mlp_4"]["limit"]
    assert limit == pytest.approx(0.2, rel=0.1)
    persistence = scores["last_value"]["rmse"]["score"]
    # The difference of two noises has their summed variance.
    assert persistence == pytest.approx(0.2 * 2**0.5, rel=0.1)
    for name in ("linear_16", "mlp_4"):
        assert limit < scores[name]["rmse"]["score"] < persistence
        assert scores[name]["rmse"]["score"] < scores[name]["ahead_64"]["score"]
    assert metrics(project, "learned_width")["test"]["distance"] < 0.05


def test_the_report_has_the_error_by_steps_ahead(project: Path) -> None:
    report = (project / "reports/comparison.md").read_text(encoding="utf-8")
    header = next(line for line in report.splitlines() if "64 steps ahead" in line)
    assert re.search(r"RMSE.*4 steps ahead.*16 steps ahead.*limit", header)
    by_length = (project / "reports/plots/mlp_4/by_length.csv").read_text(encoding="utf-8")
    lengths = [line.split(",")[1] for line in by_length.splitlines()]
    assert lengths == ["from", "1", "4", "16", "64"]
    figures = [file.name for file in (project / "reports/figures").rglob("*by_length*")]
    assert len(figures) >= 1


def test_doing_stages_again_gives_the_same_bytes(project: Path, tmp_path: Path) -> None:
    root = shutil.copytree(project, tmp_path / "again")
    runs = ("mlp_4", "learned_width")
    for stage in ("download", "tokenize", "vocab", "encode"):
        for corpus in RUNS:
            stage_runs.run(root, stage, corpus)
    for stage in ("train", "predict"):
        for run in runs:
            stage_runs.run(root, stage, run)

    folders = [f"{kind}/{corpus}" for kind in ("raw", "tokens", "encoded") for corpus in RUNS]
    folders += [f"{kind}/{run}" for kind in ("models", "predictions") for run in runs]
    for folder in folders:
        files = sorted(file for file in (project / "data" / folder).iterdir() if file.is_file())
        assert files
        for file in files:
            assert (root / "data" / folder / file.name).read_bytes() == file.read_bytes(), file


def served(project: Path, name: str, corpus: str) -> Any:
    return load_predictor(
        "series",
        TrainedRun(project / f"data/models/{name}", project / f"data/vocab/{corpus}", None, "cpu"),
    )


def test_numbers_of_a_user_are_continued(project: Path) -> None:
    predictor = served(project, "last_value", "noisy_sine")
    assert predictor(["0.25 0.5"], {"steps": 3}) == [{"value": 0.5}]
    [near, far] = served(project, "learned_width", "noisy_curve")(["1.5", "4.5"], {})
    assert near["value"] == pytest.approx(3.49, abs=0.4)
    assert far["value"] == pytest.approx(2.54, abs=0.4)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("1 x", "text: got x; expected finite numbers, separated by spaces."),
        ("1 inf", "text: got inf; expected finite numbers, separated by spaces."),
        ("1 2 3", "text: got 3 numbers; expected at least 4, which the model reads."),
    ],
)
def test_a_text_of_a_user_that_is_no_series_is_refused(text: str, line: str, project: Path) -> None:
    with pytest.raises(UserError) as error:
        served(project, "mlp_4", "noisy_sine")([text], {})
    assert str(error.value) == line


def test_the_gate_copies_rows_without_text(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = project / "data/tokens/noisy_sine"
    retokenize.retokenize(tokens, describe(project / "data/vocab/noisy_sine"), tmp_path / "own")
    copied = (tmp_path / "own/test.parquet").read_bytes()
    assert copied == (tokens / "test.parquet").read_bytes()
    # The gate encodes test sets alone, without train.
    arguments = ["stages.encode", "--params", str(project / "params.yaml")]
    for option, folder in (("tokens", tmp_path / "own"), ("out", tmp_path / "encoded")):
        arguments += [f"--{option}", str(folder)]
    arguments += ["--vocab", str(project / "data/vocab/noisy_sine")]
    monkeypatch.setattr("sys.argv", arguments)
    encode.main()
    assert (tmp_path / "encoded/test.parquet").read_bytes() == copied
    rows = retokenize.test_set_rows(tokens, has_splits=True)
    assert len(set(rows.tolist())) == len(rows) == 800
    assert retokenize.fair_rows(tokens, "test", tokens, tokens).all()
