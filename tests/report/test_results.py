"""What the metrics of the default runs must show: an edit that makes the defaults learn less does
not pass.

The metrics are those of the last `dvc repro`, of which `dvc.lock` tells: with which settings, and
from what."""

import hashlib
import json
import re
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


SUMMARY = "reports/summary.json"


def score(name: str) -> float:
    """The mean over the setting's seeds of a score, such as `lstm.perplexity`."""
    summary = json.loads((ROOT / SUMMARY).read_text(encoding="utf-8"))
    return float(summary[name])


def column(section: str, title: str) -> dict[str, float]:
    """A column of a section's ranking in the comparison, by setting: the mean over seeds."""
    text = (ROOT / "reports/comparison.md").read_text(encoding="utf-8")
    lines = text.split(f"## {section}\n", 1)[1].splitlines()
    rows = [[cell.strip() for cell in line.split("|")] for line in lines if line.startswith("|")]
    header, _, *body = rows
    at, name = header.index(title), header.index("setting")
    found = {}
    for row in body:
        if len(row) != len(header):
            break  # the next table
        found[row[name].strip("`")] = float(re.split(r" [±\[]", row[at])[0])
    return found


@pytest.fixture(scope="module")
def stages() -> dict[str, Any]:
    """What `dvc.lock` has of each stage of the DAG."""
    locked = describe.read_lock(ROOT)
    return {name: locked[name] for name in paths.stage_names(ROOT)}


def test_the_summary_is_the_file_that_was_written_last(stages: dict[str, Any]) -> None:
    made = describe.hashes(stages, "report", "outs")[SUMMARY]
    assert hashlib.md5((ROOT / SUMMARY).read_bytes()).hexdigest() == made


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
    for setting in ("attention", "transformer"):
        assert score(f"{setting}.bleu") >= 90, setting


def test_on_long_sentences_attention_is_20_bleu_ahead_of_a_single_vector() -> None:
    bleu = column("Translators on toy_en_fr", "BLEU, test_long")
    assert bleu["attention"] - bleu["seq2seq"] >= 20


def test_the_lstm_s_perplexity_is_within_15_per_cent_of_the_lowest_reachable() -> None:
    lowest = column("Language models on toy_story", "lowest reachable")["lstm"]
    assert lowest < score("lstm.perplexity") <= 1.15 * lowest


def test_every_family_of_classifier_beats_the_baselines() -> None:
    """A bag of words, and n-grams."""
    for setting in ("birnn", "text_cnn", "transformer_classifier", "bert_sentiment"):
        for baseline in ("mlp", "naive_bayes", "nbsvm"):
            ahead = score(f"{setting}.accuracy")
            assert ahead > score(f"{baseline}.accuracy"), (setting, baseline)
