"""Trained models in Python, and the notebook, on a small project whose DAG has run."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trained_project

import seqline
from pipeline import tracking
from pipeline.cli import translate
from pipeline.core import tables
from pipeline.tracking import registry

ROOT = Path(__file__).resolve().parents[2]
RUNS = ("transformer", "birnn", "lstm", "bidirectional", "bert", "skip_gram")
ENGLISH = ["the cat sleeps in the garden .", "", "where do the birds sing ?"]
pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project where all of it has run."""
    folder = tmp_path_factory.mktemp("python") / "project"
    return trained_project.build(folder, trained_project.small(RUNS))


@pytest.fixture(scope="module")
def translator(root: Path) -> seqline.Model:
    return seqline.load("transformer", root)


def samples(root: Path, run: str) -> list[dict[str, Any]]:
    """The predict stage's outputs for the corpus's samples."""
    file = root / f"data/predictions/{run}/samples.parquet"
    rows: list[dict[str, Any]] = tables.read(file, tables.SAMPLES).to_pylist()
    return rows


def test_translations_are_those_of_the_command(root: Path, translator: seqline.Model) -> None:
    session = translate.open_ensemble(root, ["transformer"])[1]
    expected = [best[0].text for best in session.translate(ENGLISH)]
    assert translator.translate(ENGLISH) == expected
    assert expected[1] == ""
    assert translator.translate([]) == []


def test_n_best_lists_are_in_order_and_begin_with_the_translation(
    translator: seqline.Model,
) -> None:
    [first, blank, _] = translator.n_best(ENGLISH, 3)
    assert len(first) == 3
    assert [item.text for item in blank] == [""]
    assert first[0].text == translator.n_best(ENGLISH[:1], 4)[0][0].text
    with pytest.raises(seqline.UserError, match=r"^n_best: got 0"):
        translator.n_best(ENGLISH, 0)


def test_translations_begin_with_their_prefixes(translator: seqline.Model) -> None:
    [first, *_] = translator.translate(ENGLISH, prefixes=["le", "", ""])
    assert first.startswith("le")
    with pytest.raises(
        seqline.UserError, match=r"^prefixes: got 1 texts; expected 3, one for each"
    ):
        translator.translate(ENGLISH, prefixes=["le"])


def test_attention_is_an_array_with_its_words(translator: seqline.Model, tmp_path: Path) -> None:
    [attention] = translator.attention(ENGLISH[:1])
    shape = (len(attention.heads), len(attention.target), len(attention.source))
    assert attention.weights.shape == shape
    words = [*ENGLISH[0].split(), "<eos>"]
    assert len(attention.source) == len(words)
    assert all(a in (b, f"{b} (unk)") for a, b in zip(attention.source, words, strict=True))
    np.testing.assert_allclose(attention.weights.sum(-1), 1.0, rtol=1e-5)
    frame = attention.frame(1)
    assert (list(frame.index), list(frame.columns)) == (attention.target, attention.source)
    np.testing.assert_array_equal(frame.to_numpy(), attention.weights[1])

    attention.save(str(tmp_path / "attention.png"))
    assert attention._repr_png_() == (tmp_path / "attention.png").read_bytes()
    with pytest.raises(seqline.UserError, match=r"expected a name that ends in \.png"):
        attention.save(tmp_path / "attention.jpg")


def test_blanks_labels_and_texts_are_those_of_the_predict_stage(root: Path) -> None:
    for name in ("bidirectional", "bert"):
        rows = samples(root, name)
        filled = seqline.load(name, root).fill([row["prompt"] for row in rows])
        assert filled == [row["text"] for row in rows]
    rows = samples(root, "birnn")
    labels = seqline.load("birnn", root).classify([row["prompt"] for row in rows])
    assert [item.label for item in labels] == [row["text"] for row in rows]
    assert [np.log(item.probability) for item in labels] == pytest.approx(
        [row["log_prob"] for row in rows]
    )


def test_a_seed_changes_the_text_that_a_search_samples(root: Path) -> None:
    model = seqline.load("lstm", root)
    [first], [repeated], [different] = (model.generate(["the"], seed=seed) for seed in (1, 1, 2))
    assert first.startswith("the")
    assert first == repeated != different


def test_neighbours_are_by_the_cosine_of_the_vectors(root: Path) -> None:
    model = seqline.load("skip_gram", root)
    table = seqline.predictions("skip_gram", root=root)
    vectors = np.stack(list(table.vector))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    word = table.index[7]
    expected = sorted(zip(unit @ unit[7], table.index, strict=True), key=lambda pair: -pair[0])
    [neighbours] = model.neighbours([word], n=4)
    near = [(cosine, name) for cosine, name in expected if name != word][:4]
    assert [item.word for item in neighbours] == [name for _, name in near]
    assert [item.cosine for item in neighbours] == pytest.approx([cosine for cosine, _ in near])
    with pytest.raises(seqline.UserError, match=r"^word: got zebras; expected one word of"):
        model.neighbours([word, "zebras"])

    target = unit[1] - unit[0] + unit[2]
    cosines = unit @ (target / np.linalg.norm(target))
    expected_words = [table.index[i] for i in np.argsort(-cosines) if i > 2][:3]
    analogy = model.analogy(*table.index[:3], n=3)
    assert [item.word for item in analogy] == expected_words


def test_all_labels_and_likeliest_words_are_ranked(root: Path) -> None:
    classifier = seqline.load("birnn", root)
    [ranked, blank] = classifier.rank(["the plot was good .", ""])
    assert blank == []
    assert sum(item.probability for item in ranked) == pytest.approx(1)
    assert ranked[0] == classifier.classify(["the plot was good ."])[0]

    filler = seqline.load("bert", root)
    text = "once upon a time a ___ lived in the ___ ."
    [[first, second]] = filler.fill_n_best([text], 3)
    assert len(first) == len(second) == 3
    assert first[0].log_prob >= first[1].log_prob >= first[2].log_prob
    [filled] = filler.fill([text])
    assert filled == text.replace("___", first[0].text, 1).replace("___", second[0].text)
    with pytest.raises(seqline.UserError, match=r"^n: got 0; expected at least 1\.$"):
        filler.fill_n_best([text], 0)


def test_words_that_a_model_does_not_know_are_warned_of(translator: seqline.Model) -> None:
    assert translator.unknown_words(["the zebra yodels", "the"]) == [["zebra", "yodels"], []]
    with pytest.warns(UserWarning, match=r"^transformer does not know: zebra, yodels$") as caught:
        translator.translate(["the zebra yodels"])
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match="zebra") as caught:
        [attention] = translator.attention(["The Zebra sleeps <unk>"])
    assert caught[0].filename == __file__
    assert attention.source == ["the", "zebra (unk)", "sleeps (unk)", "<unk>", "<eos>"]


def test_methods_of_other_tasks_are_refused_in_one_line(
    root: Path, translator: seqline.Model
) -> None:
    assert translator.abilities == ("translate", "n_best", "attention")
    with pytest.raises(
        seqline.UserError,
        match=r"^transformer: got fill; expected translate, n_best or attention, as it is a model "
        r"of translation\. See `seqline\.runs\(\)`, and load another run\.$",
    ):
        translator.fill(["a ___"])
    for name in RUNS:
        model = seqline.load(name, root)
        assert all(hasattr(model, ability) for ability in model.abilities)
        assert model.network().training is False


def test_champion_is_loaded_by_its_alias_and_not_changed_by_a_training(
    root: Path, monkeypatch: pytest.MonkeyPatch, translator: seqline.Model
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(seqline.UserError, match=r"^load: got @champion; expected a champion, and"):
        seqline.load("@champion", root)
    tracking.sync(root)
    registry.promote(root, registry.version_of_run(root, "transformer"), {})
    champion = seqline.load("@champion", root)
    assert (champion.name, champion.setting) == ("transformer", "transformer")
    assert champion.translate(ENGLISH) == translator.translate(ENGLISH)
    registry.promote(root, registry.version_of_run(root, "birnn"), {})
    with pytest.raises(seqline.UserError, match=r"got @champion; expected .*@champion or .*@cham"):
        seqline.load("@champion", root)
    assert seqline.load("classification-toy_reviews@champion", root).name == "birnn"


def test_history_has_the_losses_of_the_training(root: Path) -> None:
    frame = seqline.history("transformer", root)
    last = frame["valid/loss"].dropna().iloc[-1]
    config = json.loads((root / "data/models/transformer/config.json").read_text())
    assert frame.index[-1] == config["steps"]
    assert last > 0


def test_notebook_runs_on_a_trained_project(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", str(root))  # the project's copy of the code
    notebook = nbformat.read(ROOT / "docs/tour.ipynb", as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) == 10
    assert not any(cell.outputs for cell in code)  # outputs of another machine
    (root / "docs").mkdir(exist_ok=True)
    client = NotebookClient(notebook, resources={"metadata": {"path": str(root / "docs")}})
    client.execute()
    shown = [output for cell in code for output in cell.outputs]
    assert not any(output.output_type == "error" for output in shown)
    pictures = [output for output in shown if "image/png" in output.get("data", {})]
    assert len(pictures) == 2


def test_installed_package_can_be_imported_anywhere(root: Path, tmp_path: Path) -> None:
    program = (
        "import sys, seqline; print(seqline.load('birnn', sys.argv[1]).classify(['good .'])[0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(root)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith("Label(label=")
