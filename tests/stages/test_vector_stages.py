"""GloVe and subword vectors through the stages as DVC runs them, and words that nobody has read."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import settings_blocks
import stage_runs
import yaml

from pipeline.cli import validate_params
from pipeline.core import tables
from pipeline.core.errors import UserError
from pipeline.predictions import TrainedRun
from pipeline.predictor import load_predictor

ROOT = Path(__file__).resolve().parents[2]
RUNS = ("ppmi_svd", "subword", "glove")


def settings() -> dict[str, Any]:
    """Runs of the preset, small."""
    preset = ROOT / "presets/book.yaml"
    content: dict[str, Any] = yaml.safe_load(preset.read_text(encoding="utf-8"))
    blocks = settings_blocks.joined(content)
    content["runs"] = {name: blocks[name] for name in RUNS}
    content["runs"]["subword"]["training"] |= {"max_epochs": 1}
    content["runs"]["glove"]["training"] |= {"max_epochs": 4}
    sizes = {"train": 500, "valid": 100, "test": 100}
    content["corpora"]["toy_story"]["source"]["builtin"]["sizes"] = sizes
    content["evaluation"]["bootstrap"] = 50
    del content["shared"]
    return content


def write(root: Path, content: dict[str, Any]) -> Path:
    text = yaml.safe_dump(settings_blocks.split(content), sort_keys=False)
    (root / "params.yaml").write_text(text, encoding="utf-8")
    return root / "params.yaml"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs from download to report."""
    root = tmp_path_factory.mktemp("vectors")
    shutil.copy(ROOT / "dvc.yaml", root)
    write(root, settings())
    stage_runs.run_dag(root, ["toy_story"], RUNS)
    return root


@pytest.mark.parametrize("name", RUNS)
def test_each_word_has_a_vector_and_classes_are_scored(project: Path, name: str) -> None:
    vocab = tables.read(project / "data/vocab/toy_story/text.parquet", tables.VOCAB)
    vectors = tables.read(project / f"data/predictions/{name}/vectors.parquet", tables.VECTORS)
    assert vectors["token"].to_pylist() == vocab["token"].to_pylist()[4:]
    assert {len(vector) for vector in vectors["vector"].to_pylist()} == {32}
    metrics = json.loads((project / f"reports/metrics/{name}.json").read_text())
    assert metrics["test"]["classes"]["score"] > metrics["test"]["classes"]["chance"]


def test_only_subword_vectors_have_neighbours_of_a_word_that_nobody_has_read(
    project: Path,
) -> None:
    texts = {}
    for name in RUNS:
        run = TrainedRun(
            project / f"data/models/{name}", project / "data/vocab/toy_story", None, "cpu"
        )
        [row] = load_predictor("word_vectors", run)(["harbours q"], {})
        texts[name] = row["text"]
    assert (texts["ppmi_svd"], texts["glove"]) == ("", "")
    # `q` has no n-gram of three characters but itself.
    assert texts["subword"].startswith("harbours: harbour")
    assert ";" not in texts["subword"]


def test_check_refuses_an_objective_of_another_family(tmp_path: Path) -> None:
    content = settings()
    content["runs"]["glove"]["objective"] = content["runs"]["subword"]["objective"]
    shutil.copy(ROOT / "flow.yaml", tmp_path)
    with pytest.raises(UserError) as error:
        validate_params.check(write(tmp_path, content))
    assert str(error.value) == (
        "settings.glove.objective.method: got skip_gram; expected glove for glove."
    )
