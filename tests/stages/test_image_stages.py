"""Corpora of pictures through the stages as DVC runs them, the commands, a served version, and what
users get wrong."""

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import stage_runs
import yaml
from sklearn import metrics as sklearn
from stage_commands import refused, trial

from pipeline import predictions
from pipeline.cli import validate_params
from pipeline.core import tables
from pipeline.core.errors import UserError
from pipeline.core.images import decode_png, encode_png
from pipeline.predictor import load_predictor
from pipeline.promotion import retokenize
from pipeline.scoring import tasks
from pipeline.text.encode import describe
from pipeline.tracking import versions

__all__ = ["trial"]  # a fixture
ROOT = Path(__file__).resolve().parents[2]
SIDES = {"image_height": 16, "image_width": 16}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "vit": (
        "vision_transformer",
        {"patch": 8, "width": 8, "heads": 2, "feed_forward": 8, "layers": 1, "dropout": 0.1,
         "pooling": "cls", "implementation": "fused"},
    ),
    "swin": (
        "swin_transformer",
        {"patch": 4, "width": 8, "layers": [2, 1], "heads": [2, 2], "window": 2, "expansion": 1,
         "dropout": 0.0},
    ),
    "cnn": ("image_cnn", {"filters": [4], "kernel": 3, "hidden": 8, "dropout": 0.0}),
    "mlp": ("image_mlp", {"hidden": 8, "layers": 1, "dropout": 0.0}),
    "neighbours": ("image_neighbours", {"neighbours": [1, 5], "smoothing": 1.0}),
}  # fmt: skip
SIZES = {"train": 150, "valid": 40, "test": 80}


def params(**corpus_changes: Any) -> dict[str, Any]:
    """params.yaml with small runs of every family on the built-in pictures."""
    preset = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    corpus = {
        "format": "labelled_images",
        "source": {"builtin": {"grammar": "toy_pictures", "seed": 1, "sizes": SIZES}},
        "read": {"files": {split: [f"{split}.parquet"] for split in SIZES}, **SIDES},
        "limit": None,
        "split": "official",
        "text": None,
        "bleu_tokenizer": "auto",
        "vocab": {"corpus": "toy_pictures"},
        "samples": [],
    }
    optim = {
        "name": "adam", "learning_rate": 0.01, "betas": [0.9, 0.98], "weight_decay": 0.0,
        "clip_norm": 1.0, "schedule": {"name": "cosine", "warmup_steps": 5},
    }  # fmt: skip
    training = {
        "max_epochs": 2, "patience": None, "accumulate": 1, "average": None,
        "precision": "float32", "threads": 1,
    }  # fmt: skip
    settings = {}
    for name, (_, model) in MODELS.items():
        is_fitted = name == "neighbours"
        settings[name] = {
            "model": SIDES | model,
            "objective": None if is_fitted else {"batch_size": 32, "label_smoothing": 0.0},
            "optim": None if is_fitted else optim,
            "training": None if is_fitted else training,
            "search": None,
        }
    runs = {
        name: {
            "setting": name, "family": family, "task": "image_classification",
            "corpus": "toy_pictures", "init_from": "scratch", "seed": 1,
        }
        for name, (family, _) in MODELS.items()
    }  # fmt: skip
    return {
        "compute": stage_runs.HERE,
        "evaluation": preset["evaluation"] | {"bootstrap": 50},
        "corpora": {"toy_pictures": corpus | corpus_changes},
        "settings": settings,
        "runs": runs,
    }


def write(root: Path, content: dict[str, Any]) -> None:
    (root / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pictures")
    write(root, params())
    stage_runs.run_dag(root, ["toy_pictures"], MODELS)
    return root


def rows(project: Path, split: str) -> list[dict[str, Any]]:
    path = project / f"data/raw/toy_pictures/{split}.parquet"
    return tables.read(path, tables.IMAGES).to_pylist()


def test_pixels_and_labels_reach_the_model(project: Path) -> None:
    names = ["box_left", "cross_left", "same"]
    for split in SIZES:
        path = project / f"data/encoded/toy_pictures/{split}.parquet"
        encoded = tables.read(path, tables.ENCODED_IMAGE).to_pylist()
        for row, raw in zip(encoded, rows(project, split), strict=True):
            assert names[row["label"]] == raw["label"]
            assert row["pixels"] == decode_png(raw["image"], "x", (16, 16)).tobytes()
            assert (row["height"], row["width"]) == (16, 16)
    vocab = describe(project / "data/vocab/toy_pictures")
    assert (vocab.sides, vocab.sizes) == ((), {"label": 3})
    counted = json.loads((project / "reports/corpora/toy_pictures.json").read_text())["splits"]
    assert {split: counted[split]["rows"] for split in SIZES} == SIZES
    assert sum(counted["train"]["labels"].values()) == 150
    assert counted["test"]["rows_also_in_train"] == 0


@pytest.mark.parametrize("run", MODELS)
def test_metrics_are_scikit_learns(project: Path, run: str) -> None:
    found = json.loads((project / f"reports/metrics/{run}.json").read_text())["test"]
    want = [row["label"] for row in rows(project, "test")]
    path = project / f"data/predictions/{run}/labels_test.parquet"
    predicted = tables.read(path, tables.LABELS).to_pylist()
    got = [row["label"] for row in predicted]
    probabilities = np.exp([row["log_probs"] for row in predicted])
    accuracy = 100 * sklearn.accuracy_score(want, got)
    assert found["accuracy"]["score"] == pytest.approx(accuracy, abs=1e-5)
    nats = sklearn.log_loss(want, probabilities)
    assert found["nats_per_picture"] == pytest.approx(nats, abs=1e-5)
    assert found["blocks"] == found["rows"] == 80
    limit = json.loads((project / "data/raw/toy_pictures/limits.json").read_text())["test"]
    assert found["limit"] == pytest.approx(limit["accuracy"])
    labels = sorted(found["confusion"])
    matrix = sklearn.confusion_matrix(want, got, labels=labels)
    assert [[found["confusion"][a][b] for b in labels] for a in labels] == matrix.tolist()


def test_the_report_ranks_and_has_a_confusion_matrix_and_no_curve_by_length(project: Path) -> None:
    text = (project / "reports/comparison.md").read_text(encoding="utf-8")
    assert "## Classifiers of pictures on toy_pictures" in text
    assert "nats per picture" in text
    assert "limit, %" in text
    assert "Accuracy is the share of pictures whose most likely label is the true one." in text
    assert "per text" not in text
    figures = project / "reports/figures"
    assert (figures / "confusion_image_classification_toy_pictures.png").exists()
    assert not (figures / "by_length_image_classification_toy_pictures.png").exists()


def test_doing_a_stage_again_gives_the_same_bytes(project: Path, tmp_path: Path) -> None:
    """Convolutions, windows and patches too."""
    root = shutil.copytree(project, tmp_path / "project")
    names = {run: (root / f"data/models/{run}/model.safetensors") for run in MODELS}
    before = {run: file.read_bytes() for run, file in names.items()}
    for run in MODELS:
        stage_runs.run(root, "train", run)
        assert names[run].read_bytes() == before[run], run
    for stage in ("download", "tokenize", "vocab", "encode"):
        stage_runs.run(root, stage, "toy_pictures")
    for folder in ("raw", "tokens", "vocab", "encoded"):
        for file in (project / f"data/{folder}/toy_pictures").glob("*.parquet"):
            assert (root / file.relative_to(project)).read_bytes() == file.read_bytes()


# Commands and serving


def test_classify_labels_the_picture_in_a_file(trial, project: Path) -> None:
    (project / "a.png").write_bytes(rows(project, "test")[0]["image"])
    path = project / "data/predictions/vit/labels_test.parquet"
    predicted = tables.read(path, tables.LABELS).to_pylist()[0]
    said = trial("classify", "a.png", "--run", "vit")
    probability = np.exp(max(predicted["log_probs"]))
    assert said == (0, f"{probability:.4f}  {predicted['label']}\n", "")


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (None, "a.png: got no such file or directory; expected a PNG file. Correct its name."),
        (
            b"GIF89a",
            "a.png: got bytes that are no PNG file (other bytes); expected a picture as a ",
        ),
        (
            encode_png(np.zeros((8, 8), np.uint8)),
            "a.png: got a picture of 8 x 8 pixels; expected 16 x 16, height by width. ",
        ),
    ],
)
def test_classify_refuses_what_is_no_picture_in_one_line(
    trial, project: Path, data: bytes | None, line: str
) -> None:
    (project / "a.png").unlink(missing_ok=True)
    if data is not None:
        (project / "a.png").write_bytes(data)
    said = trial("classify", "a.png", "--run", "cnn")
    assert (said.status, said.out) == (2, "\n")
    assert line in said.err
    assert said.err.count("\n") == 1


@pytest.fixture(scope="module")
def predictor(project: Path) -> predictions.Predictor:
    run = predictions.TrainedRun(
        project / "data/models/swin", project / "data/vocab/toy_pictures", None, "cpu"
    )
    return load_predictor("image_classification", run)


def test_a_served_version_labels_pictures_in_base64(predictor, project: Path) -> None:
    images = [row["image"] for row in rows(project, "test")[:5]]
    answers = predictor([base64.b64encode(image).decode() for image in images], {})
    path = project / "data/predictions/swin/labels_test.parquet"
    predicted = tables.read(path, tables.LABELS).to_pylist()[:5]
    assert [answer["label"] for answer in answers] == [row["label"] for row in predicted]
    for answer, row in zip(answers, predicted, strict=True):
        assert answer["probability"] == pytest.approx(np.exp(max(row["log_probs"])))
    assert answers[0].keys() == tasks.interface("image_classification").outputs.keys()


PNG = base64.b64encode(encode_png(np.zeros((16, 16), np.uint8))).decode()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a picture", "inputs[1]: got a text that is no base64; expected the bytes of a PNG file "),
        ("aGVsbG8=", "inputs[1]: got bytes that are no PNG file (other bytes); expected a picture"),
        ("", "inputs[1]: got bytes that are no PNG file (no bytes); expected a picture as a PNG "),
        (PNG[:120], "inputs[1]: got bytes that are no PNG file ("),
        (
            tasks.interface("image_classification").example,
            "inputs[1]: got a picture of 8 x 8 pixels; expected 16 x 16, height by width.",
        ),
    ],
)
def test_a_served_version_refuses_what_is_no_picture_in_one_line(
    predictor, text: str, line: str
) -> None:
    with pytest.raises(UserError) as error:
        predictor([PNG, text], {})
    assert str(error.value).startswith(line)
    assert "\n" not in str(error.value)


def test_a_test_set_of_pictures_is_the_same_for_both_contenders(
    project: Path, tmp_path: Path
) -> None:
    tokens = project / "data/tokens/toy_pictures"
    retokenize.retokenize(tokens, describe(project / "data/vocab/toy_pictures"), tmp_path / "out")
    assert (tmp_path / "out/test.parquet").read_bytes() == (tokens / "test.parquet").read_bytes()
    assert len(np.unique(retokenize.test_set_rows(tokens, True))) == 80


def test_a_registered_version_says_its_accuracy(project: Path) -> None:
    """Its corpus has no block `text` that could say whether case counts."""
    metrics = json.loads((project / "reports/metrics/cnn.json").read_text())["test"]["accuracy"]
    run: Any = SimpleNamespace(
        run="cnn",
        task="image_classification",
        corpus_block={"text": None},
        outs=["reports/metrics/cnn.json"],
    )
    line = versions.score_line(project, run)
    assert line.startswith(f"accuracy {metrics['score']:.2f} [")


# What users get wrong


def own_files(root: Path, images: dict[str, list[bytes]], labels: dict[str, list[str]]) -> None:
    """A project with the user's own pictures."""
    write(root, params(source={"path": "mine"}))
    raw = root / "data/raw/toy_pictures"
    raw.mkdir(parents=True)
    for split in SIZES:
        table = pa.table([pa.array(images[split], pa.binary()), labels[split]], tables.IMAGES)
        tables.write(raw / f"{split}.parquet", table)


GREY = encode_png(np.full((16, 16), 80, np.uint8))


def test_a_class_without_rows_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = {"train": ["cat", "dog"], "valid": ["cat", "cat"], "test": ["dog", "cat"]}
    own_files(tmp_path, {split: [GREY, GREY] for split in SIZES}, labels)
    line = refused(tmp_path, capsys, "tokenize", "toy_pictures")
    assert line == (
        "seqline: corpora.toy_pictures.read: got no row of the label dog for valid; expected every "
        "label in each of train, valid, test: cat, dog. Read more rows, or leave the label out.\n"
    )


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (b"\x89PNG", "test.parquet, row 1: got bytes that are no PNG file"),
        (
            encode_png(np.zeros((16, 8), np.uint8)),
            "test.parquet, row 1: got a picture of 16 x 8 pixels; expected 16 x 16",
        ),
    ],
)
def test_a_picture_that_cannot_be_read_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], image: bytes, words: str
) -> None:
    images = {"train": [GREY, GREY], "valid": [GREY, GREY], "test": [GREY, image]}
    own_files(tmp_path, images, {split: ["cat", "dog"] for split in SIZES})
    assert words in refused(tmp_path, capsys, "tokenize", "toy_pictures")
    assert not (tmp_path / "data/tokens/toy_pictures").exists()


def test_a_model_for_pictures_of_another_size_is_refused_in_one_line(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = shutil.copytree(project, tmp_path / "project")
    content = params()
    for name in ("mlp", "neighbours"):
        content["settings"][name]["model"] |= {"image_height": 8, "image_width": 32}
    write(root, content)
    for name in ("mlp", "neighbours"):
        assert refused(root, capsys, "train", name) == (
            "seqline: model.image_height: got 8 with image_width 32; expected 16 with 16, the size "
            "of the corpus's pictures. Take it from the corpus's `read`.\n"
        )


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("settings.vit.model.patch", 5, "got 5 with pictures of 16 x 16 pixels"),
        ("settings.swin.model.window", 8, "got 8 with a feature map of 4 x 4 in stage 1"),
        ("corpora.toy_pictures.text", {}, "got a section; expected null"),
        ("runs.cnn.family", "text_cnn", "expected one of image_cnn, image_mlp, image_neighbours, "),
    ],
)
def test_check_refuses_what_does_not_fit_pictures(
    project: Path,
    edited: Callable[[Path, str, object], None],
    tmp_path: Path,
    key: str,
    value: object,
    words: str,
) -> None:
    (tmp_path / "flow.yaml").write_bytes((ROOT / "flow.yaml").read_bytes())
    write(tmp_path, params())
    validate_params.check(tmp_path / "params.yaml")
    edited(tmp_path, key, value)
    with pytest.raises(UserError) as error:
        validate_params.check(tmp_path / "params.yaml")
    assert str(error.value).startswith(f"{key}: ")
    assert words in str(error.value)
    assert "\n" not in str(error.value)
