"""What the metrics of the default runs must show: an edit that makes the defaults learn less does not pass."""

import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent

if (ROOT / "params.yaml").read_bytes() != (ROOT / "presets/default.yaml").read_bytes():
    pytest.skip("params.yaml is not the default one", allow_module_level=True)


def scores(run: str, split: str = "test") -> Any:
    return json.loads((ROOT / f"reports/metrics/{run}.json").read_text(encoding="utf-8"))[split]


def test_the_default_translators_that_look_at_the_source_have_bleu_90() -> None:
    for run in ("attention", "transformer"):
        assert scores(run)["bleu"]["score"] >= 90, run


def test_on_long_sentences_attention_is_20_bleu_ahead_of_a_single_vector() -> None:
    ahead = scores("attention", "test_long")["bleu"]["score"] - scores("seq2seq", "test_long")["bleu"]["score"]
    assert ahead >= 20


def test_the_lstm_s_perplexity_is_within_15_per_cent_of_the_lowest_reachable() -> None:
    found = scores("lstm")
    assert found["floor_perplexity"] < found["perplexity"]["score"] <= 1.15 * found["floor_perplexity"]


def test_every_family_of_classifier_beats_a_bag_of_words() -> None:
    for run in ("birnn", "text_cnn", "transformer_classifier", "bert_sentiment"):
        assert scores(run)["accuracy"]["low"] > scores("mlp")["accuracy"]["high"], run
