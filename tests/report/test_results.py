"""What the metrics of the default runs must show: an edit that makes the defaults learn less does
not pass.

The metrics are those of the last `dvc repro`, of which `dvc.lock` tells: with which settings, and
from what."""

import hashlib
import json
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.cli import presets
from pipeline.dag import paths
from pipeline.tracking import describe

ROOT = Path(__file__).resolve().parents[2]

if not (ROOT / "params.yaml").read_bytes().startswith(presets.DEFAULT_TITLE):
    pytest.skip("params.yaml is not the default one", allow_module_level=True)


def scores(run: str, split: str = "test") -> Any:
    return json.loads((ROOT / f"reports/metrics/{run}.json").read_text(encoding="utf-8"))[split]


@pytest.fixture(scope="module")
def stages() -> dict[str, Any]:
    """What `dvc.lock` has of each stage of the DAG."""
    locked = describe.read_lock(ROOT)
    return {name: locked[name] for name in paths.stage_names(ROOT)}


def test_the_metrics_are_the_files_that_were_evaluated_last(stages: dict[str, Any]) -> None:
    for run in yaml.safe_load((ROOT / "params.yaml").read_text())["runs"]:
        path = f"reports/metrics/{run}.json"
        made = describe.hashes(stages, f"evaluate@{run}", "outs")[path]
        assert hashlib.md5((ROOT / path).read_bytes()).hexdigest() == made, run


def test_every_stage_was_run_with_the_settings_of_params_yaml(stages: dict[str, Any]) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    used = {
        (name, key): value
        for name in stages
        for key, value in stages[name].get("params", {}).get("params.yaml", {}).items()
    }
    assert len(used) > len(stages)
    for (name, key), value in used.items():
        assert reduce(lambda here, word: here[word], key.split("."), params) == value, (
            f"{name}: {key}"
        )


def test_dependency_hashes_match_outputs_of_earlier_stages(stages: dict[str, Any]) -> None:
    made = {
        path: md5 for name in stages for path, md5 in describe.hashes(stages, name, "outs").items()
    }
    read = {
        (name, path): md5
        for name in stages
        for path, md5 in describe.hashes(stages, name, "deps").items()
    }
    between = {key: md5 for key, md5 in read.items() if key[1] in made}
    assert len(between) > len(stages)
    for (name, path), md5 in between.items():
        assert made[path] == md5, f"{name}: {path}"


def test_the_default_translators_that_look_at_the_source_have_bleu_90() -> None:
    for run in ("attention", "transformer"):
        assert scores(run)["bleu"]["score"] >= 90, run


def test_on_long_sentences_attention_is_20_bleu_ahead_of_a_single_vector() -> None:
    ahead = (
        scores("attention", "test_long")["bleu"]["score"]
        - scores("seq2seq", "test_long")["bleu"]["score"]
    )
    assert ahead >= 20


def test_the_lstm_s_perplexity_is_within_15_per_cent_of_the_lowest_reachable() -> None:
    found = scores("lstm")
    assert (
        found["floor_perplexity"] < found["perplexity"]["score"] <= 1.15 * found["floor_perplexity"]
    )


def test_every_family_of_classifier_beats_a_bag_of_words() -> None:
    for run in ("birnn", "text_cnn", "transformer_classifier", "bert_sentiment"):
        assert scores(run)["accuracy"]["low"] > scores("mlp")["accuracy"]["high"], run
