"""The programs behind docs/results.md that read trained runs: on small runs, against what the
stages say of them."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import stage_runs
import torch
import yaml
from torch import nn

from benchmarks import batch_norm, bert_slots, book_speed, ensemble, moses_tokens, optimisers
from pipeline.core import config, tables
from pipeline.core.errors import UserError
from pipeline.tasks import masked_language_model as mlm
from pipeline.tasks import translation
from pipeline.training import checkpoint

ROOT = Path(__file__).resolve().parents[2]
TRANSLATORS = ("layer_norm-1", "layer_norm-2", "batch_norm-1")
CPU = torch.device("cpu")


def params() -> dict[str, Any]:
    """Three Transformers of the preset `exercises` and the default BERT, made small."""
    exercises, default = (
        yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))
        for name in ("presets/exercises.yaml", "params.yaml")
    )
    corpora = {
        "toy_en_fr": exercises["corpora"]["toy_en_fr"],
        "toy_story": default["corpora"]["toy_story"],
    }
    corpora["toy_en_fr"]["source"]["builtin"]["sizes"] = {
        "train": 500,
        "valid": 30,
        "test": 40,
        "test_long": 10,
    }
    corpora["toy_story"]["source"]["builtin"]["sizes"] = {"train": 200, "valid": 40, "test": 60}
    settings = {name: exercises["settings"][name] for name in ("layer_norm", "batch_norm")}
    settings["bert"] = default["settings"]["bert"]
    for setting in settings.values():
        setting["model"] |= {"width": 16, "feed_forward": 16}
        setting["training"] |= {"max_epochs": 1}
    runs = {name: exercises["runs"][name] for name in TRANSLATORS}
    runs["bert-1"] = default["runs"]["bert-1"] | {"corpus": "toy_story"}
    evaluation = default["evaluation"] | {"bootstrap": 50}
    return {
        "compute": default["compute"] | {"device": "cpu"},
        "evaluation": evaluation,
        "corpora": corpora,
        "settings": settings,
        "runs": runs,
    }


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose runs were trained and whose translators were scored."""
    root = tmp_path_factory.mktemp("benchmarks")
    shutil.copy(ROOT / "dvc.yaml", root)
    (root / "params.yaml").write_text(yaml.safe_dump(params()), encoding="utf-8")
    stage_runs.run(root, "scratch")
    for corpus in params()["corpora"]:
        for stage in ("download", "tokenize", "vocab", "encode"):
            stage_runs.run(root, stage, corpus)
    stage_runs.run(root, "train", "bert-1")
    for name in TRANSLATORS:
        for stage in ("train", "predict", "evaluate"):
            stage_runs.run(root, stage, name)
    return root


@pytest.fixture
def run_benchmark(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """What a benchmark prints."""

    def run(module: ModuleType, *arguments: str) -> str:
        monkeypatch.setattr("sys.argv", [module.__name__, *arguments])
        capsys.readouterr()
        module.main()
        return capsys.readouterr().out

    return run


def scores(text: str) -> dict[str, float]:
    return {
        name: float(score)
        for name, score in re.findall(r"^([\w-]+) +([\d.]+) \[", text, re.MULTILINE)
    }


@pytest.mark.long
def test_an_ensembles_members_have_the_bleu_of_their_metrics(
    trained: Path, run_benchmark: Callable[..., str]
) -> None:
    said = run_benchmark(ensemble, "layer_norm-1", "layer_norm-2", "--root", str(trained))
    found = scores(said)
    assert set(found) == {"ensemble", "layer_norm-1", "layer_norm-2"}
    for name in ("layer_norm-1", "layer_norm-2"):
        metrics = json.loads((trained / f"reports/metrics/{name}.json").read_text())["test"]["bleu"]
        assert found[name] == pytest.approx(metrics["score"], abs=0.006)
        assert metrics["signature"] in said
    assert len(re.findall(r"corrected [\d.]+$", said, re.MULTILINE)) == 3


@pytest.mark.long
def test_an_ensemble_of_one_run_twice_is_that_run(
    trained: Path, run_benchmark: Callable[..., str]
) -> None:
    found = scores(
        run_benchmark(
            ensemble, "batch_norm-1", "batch_norm-1", "--root", str(trained), "--split", "test_long"
        )
    )
    assert found["ensemble"] == found["batch_norm-1"]
    with pytest.raises(
        UserError, match="a run of the task masked_language_model; expected a translator"
    ):
        run_benchmark(ensemble, "batch_norm-1", "bert-1", "--root", str(trained))


@pytest.mark.long
def test_moses_tokens_match_papers_and_bleu_matches_metrics(
    trained: Path, run_benchmark: Callable[..., str]
) -> None:
    assert moses_tokens.moses_tokenize(["Ein „Hut“, der z.B. etwas  anstarrt."], "de") == [
        'ein " hut " , der z.b. etwas anstarrt .'
    ]
    assert moses_tokens.moses_tokenize(["L’homme n'a pas dit\u00a0: « oui »."], "fr") == [
        "l' homme n' a pas dit : \" oui \" ."
    ]
    found = re.findall(
        r"BLEU ([\d.]+),",
        run_benchmark(moses_tokens, "layer_norm-1", "--language", "fr", "--root", str(trained)),
    )
    metrics = json.loads((trained / "reports/metrics/layer_norm-1.json").read_text())["test"][
        "bleu_lowercase"
    ]
    assert [float(score) for score in found] == pytest.approx([metrics["score"]] * 2, abs=0.006), (
        "the toy's tokens are Moses'"
    )


@pytest.mark.parametrize("name", ["layer_norm-1", "batch_norm-1"])
@pytest.mark.long
def test_with_kept_figures_a_loss_is_that_of_the_predictions_however_it_is_read(
    trained: Path, name: str
) -> None:
    model = checkpoint.load_model(trained / "data/models" / name, CPU)
    pairs = translation.Pairs(
        tables.read(trained / "data/encoded/toy_en_fr/test.parquet", translation.SCHEMA), CPU
    )
    rows = tables.read(
        trained / f"data/predictions/{name}/likelihood_test.parquet", tables.LIKELIHOOD
    )
    want = rows["nats"].to_numpy().sum() / rows["count"].to_numpy().sum()
    for setting in batch_norm.SETTINGS:
        losses = [batch_norm.measure(model, pairs, setting, size)[0] for size in (1, 8)]
        if name == "layer_norm-1" or not setting.batch_statistics:
            assert losses == pytest.approx([want, want], abs=1e-4)
        else:
            assert abs(losses[0] - losses[1]) > 0.001, (
                "a batch's own figures depend on who is in it"
            )


@torch.inference_mode()
@pytest.mark.long
def test_with_the_batchs_own_figures_it_is_read_as_in_training(trained: Path) -> None:
    """Torch's batch norm in training mode, padding and all."""
    folder = trained / "data/models/batch_norm-1"
    pairs = translation.Pairs(
        tables.read(trained / "data/encoded/toy_en_fr/test.parquet", translation.SCHEMA), CPU
    )
    setting = batch_norm.Setting(
        batch_statistics=True, mixed_lengths=True, count_padding=True, extra_padding=0
    )
    found, far = batch_norm.measure(checkpoint.load_model(folder, CPU), pairs, setting, 8)
    model = checkpoint.load_model(folder, CPU)
    for module in model.modules():
        module.train(isinstance(module, nn.BatchNorm1d))
    nats, tokens = 0.0, 0
    for batch in batch_norm.batches(pairs, setting, 8):
        logits_NV, label_N = translation.real_logits(model, batch)  # type: ignore[arg-type]
        nats += float(nn.functional.cross_entropy(logits_NV, label_N, reduction="sum"))
        tokens += len(label_N)
    assert found == pytest.approx(nats / tokens, abs=1e-5)
    assert far is not None
    assert far > 0


@pytest.mark.long
def test_a_batch_norm_table_has_a_line_for_every_way_and_a_figure_for_every_size(
    trained: Path, run_benchmark: Callable[..., str]
) -> None:
    said = run_benchmark(batch_norm, "batch_norm-1", "--root", str(trained), "--rows", "8")
    for split in ("test", "test_long"):
        assert f"batch_norm-1, {split}: " in said
    lines = [line for line in said.splitlines() if line.startswith(("| kept", "| the batch"))]
    assert len(lines) == 2 * len(batch_norm.SETTINGS)
    assert all(
        len(re.findall(r"\d+\.\d{4} \(\d+\.\d{2}\)", line)) == len(batch_norm.SIZES)
        for line in lines
    )


@pytest.mark.long
def test_berts_slots_are_those_of_the_run_trained_again(
    trained: Path, run_benchmark: Callable[..., str]
) -> None:
    said = run_benchmark(bert_slots, "bert-1", "--root", str(trained))
    assert said.startswith(f"The weights are those of {trained}/data/models/bert-1")
    [(word, slot)] = re.findall(
        r"^\| trained on the book's loss, .* \| ([\d.]+) \| ([\d.]+) \|", said, re.MULTILINE
    )
    slots = round(0.15 * params()["settings"]["bert"]["objective"]["max_length"])
    assert f"per slot, of {slots} a pair" in said
    masked = float(re.search(r"Masked words a pair: ([\d.]+)", said)[1])  # type: ignore[index]
    assert float(slot) > 2 * float(word) * masked / slots, (
        "in the first steps an empty slot costs about as much as a word"
    )


@torch.inference_mode()
@pytest.mark.long
def test_a_loss_by_slots_is_that_of_the_books_labels(trained: Path) -> None:
    """d2l section 15.9: positions and labels of every slot, 0 where there is none; the mean over
    all of them."""
    encoded = trained / "data/encoded/toy_story"
    train, valid = (
        tables.read(encoded / f"{split}.parquet", mlm.SCHEMA) for split in ("train", "valid")
    )
    objective = config.load(mlm.Config, params()["settings"]["bert"]["objective"], "objective")
    model: Any = checkpoint.load_model(trained / "data/models/bert-1", CPU).eval()
    task = bert_slots.RecordingTask(train, valid, objective, 1, CPU, slots=10)
    batch = task.batch(task.plan(0)[0])
    found, _ = task.loss(model, batch, None)
    hidden_BSH = model.read(batch.text, batch.segment_BS)
    losses = []
    for hidden_SH, label_S in zip(hidden_BSH, batch.label_BS, strict=True):
        places = label_S.nonzero()[:, 0].tolist()
        for place in [*places, *[0] * (10 - len(places))]:
            losses.append(-model.project(hidden_SH[place]).log_softmax(-1)[label_S[place]])
    pairs = nn.functional.cross_entropy(model.follows(hidden_BSH), batch.follows_B)
    assert found.tokens == len(losses) == 10 * len(batch.label_BS)
    torch.testing.assert_close(
        found.total / found.tokens, torch.stack(losses).mean() + pairs, rtol=1e-4, atol=1e-5
    )


def test_the_entropy_of_words_is_that_of_their_frequencies() -> None:
    ids = np.array([0, 2, 3, 4, 5, 6, 7, 4, 5, 6, 7, 3], np.int32)
    assert bert_slots.entropy(ids) == pytest.approx(np.log(4))
    assert bert_slots.entropy(np.array([4, 4, 4, 5], np.int32)) == pytest.approx(
        -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    )


def test_a_training_that_has_no_metrics_counts_as_diverged(
    tmp_path: Path, run_benchmark: Callable[..., str]
) -> None:
    perplexities: dict[str, list[float | None]] = {
        "sgd_5": [19.0, 20.0, 21.0],
        "sgd_6": [21.0, 21.0, 21.0],
        "sgd_8": [None, None, None],
        "momentum_5": [6.4, 6.6, 6.5],
        "momentum_8": [400.0, 400.0, 400.0],
        "adam_6": [6.0, None, 6.0],
    }
    content = yaml.safe_load((ROOT / "presets/optimisers.yaml").read_text(encoding="utf-8"))
    content["settings"] = {name: content["settings"][name] for name in perplexities}
    content["runs"] = {
        name: run for name, run in content["runs"].items() if run["setting"] in perplexities
    }
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    (tmp_path / "reports/metrics").mkdir(parents=True)
    arguments = ("--root", str(tmp_path), "--out", str(tmp_path / "optimisers.png"))
    with pytest.raises(
        UserError, match=r"reports/metrics: got no scores; expected those of params\.yaml's runs"
    ):
        run_benchmark(optimisers, *arguments)
    for name, run in content["runs"].items():
        score = perplexities[run["setting"]][run["seed"] - 1]
        if score is not None:
            test = {"perplexity": {"score": score}, "floor_perplexity": 5.0}
            (tmp_path / f"reports/metrics/{name}.json").write_text(json.dumps({"test": test}))
    assert [
        line.strip("| ").split(" | ") for line in run_benchmark(optimisers, *arguments).splitlines()
    ] == [
        ["optimiser", "1.024", "4.096", "65.536", "within 10 % of its best"],
        ["---|---:|---:|---:|---:"],
        ["adam", "–", "diverged", "–", "–"],
        ["momentum", "6.50", "–", "diverged", "1.024"],
        ["sgd", "20.00", "21.00", "diverged", "1.024 to 4.096"],
    ]
    assert (tmp_path / "optimisers.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("make", [book_speed.book_updates, book_speed.our_updates])
@pytest.mark.parametrize("cell", book_speed.CELLS)
def test_both_loops_of_a_character_model_make_updates(make, cell: str) -> None:
    update = make(cell, 4)
    for _ in range(2):
        update()
