"""Blanks: the ids around them at every level of text, and both families that fill them in, through
the stages."""

import json
import re
from pathlib import Path
from typing import Any

import default_params
import numpy as np
import pyarrow as pa
import pytest
import stage_runs
import torch

from pipeline.contracts import MASK
from pipeline.core import tables
from pipeline.scoring.unknown import unknown
from pipeline.tasks import fill_blank
from pipeline.tasks import masked_language_model as mlm
from pipeline.text.blanks import BLANK, encode_around_blanks
from pipeline.text.encode import Codec
from pipeline.text.tokens import LEVELS
from pipeline.training import checkpoint

CPU = torch.device("cpu")
PROMPTS = (
    "the whales near the harbour ___ the anchor .",
    "___ upon a time a mermaid lived in the sea .",
    "does the crab that the gulls see her ___",
)
RUNS = {
    "bert": "pieces",
    "bidirectional_pieces": "pieces",
    "bidirectional": "toy_story",
    "gru": "toy_story",
}


def params() -> dict[str, Any]:
    """The built-in stories at every level, `pieces` being those at bpe, and small runs that fill
    their blanks."""
    content = default_params.load()
    story, runs = content["corpora"]["toy_story"], content["runs"]
    story["source"]["builtin"]["sizes"] = {"train": 300, "valid": 40, "test": 80}
    story["samples"] = [{"prompt": prompt, "reference": None} for prompt in PROMPTS]
    content["corpora"] = {
        name: story
        | {
            "text": story["text"] | {"level": level},
            "vocab": story["vocab"] | {"corpus": name, "size": size},
        }
        for name, level, size in (
            ("toy_story", "word", None),
            ("pieces", "bpe", 500),
            ("chars", "char", None),
            ("spaces", "space", None),
        )
    }
    runs["bert"]["model"] |= {"width": 16, "heads": 2, "feed_forward": 16, "learned_positions": 128}
    runs["bidirectional"]["model"] |= {"embedding": 16, "hidden": 16}
    runs["bidirectional_pieces"] = runs["bidirectional"]
    content["runs"] = {name: runs[name] | {"corpus": corpus} for name, corpus in RUNS.items()}
    for run in content["runs"].values():
        run["training"] |= {"max_epochs": 1}
    content["evaluation"]["bootstrap"], content["compute"]["device"] = 50, "cpu"
    return content


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the stories encoded at every level."""
    root = tmp_path_factory.mktemp("blanks")
    default_params.write(root, params())
    for corpus in params()["corpora"]:
        for stage in ("download", "tokenize", "vocab", "encode"):
            stage_runs.run(root, stage, corpus)
    return root


@pytest.fixture(scope="module")
def done(encoded: Path) -> Path:
    """The same folder after every run and the report."""
    stage_runs.run(encoded, "scratch")
    for name in RUNS:
        for stage in ("train", "predict", "evaluate"):
            stage_runs.run(encoded, stage, name)
    stage_runs.run(encoded, "report")
    return encoded


def codec_of(root: Path, corpus: str) -> Codec:
    return Codec.load(root / "data/vocab" / corpus, "text")


def ids_of(codec: Codec, text: str) -> list[int]:
    found: list[int] = codec.encode(pa.array([text])).to_pylist()[0]
    return found


@pytest.mark.parametrize("corpus", ["toy_story", "pieces", "chars", "spaces"])
def test_context_of_blanks_is_encoded_as_in_the_whole_text(corpus: str, encoded: Path) -> None:
    assert {block["text"]["level"] for block in params()["corpora"].values()} == set(LEVELS)
    told = tables.read(encoded / "data/tokens/toy_story/train.parquet", tables.TOKENS_TEXT)[
        "tokens"
    ].to_pylist()
    codec, words = codec_of(encoded, corpus), next(words for words in told if len(words) > 8)
    whole = ids_of(codec, " ".join(words))
    for first in range(len(words)):
        for second in range(first, len(words)):
            blanks = {first, second}
            text = " ".join(BLANK if place in blanks else word for place, word in enumerate(words))
            parts = encode_around_blanks(codec, text)
            assert len(parts) == len(blanks) + 1
            place = len(parts[0])
            assert whole[:place] == parts[0]
            for blank, part in zip(sorted(blanks), parts[1:], strict=True):
                end = next(
                    e
                    for e in range(place + 1, len(whole) + 1)
                    if codec.decode(whole[place:e]).strip() == words[blank]
                )
                assert whole[end : end + len(part)] == part
                place = end + len(part)
            assert place == len(whole)


def test_no_space_after_a_blank_adds_no_space_to_the_next_token(encoded: Path) -> None:
    codec = codec_of(encoded, "pieces")
    before, after = encode_around_blanks(codec, "the crab sees the ___.")
    assert before == ids_of(codec, "the crab sees the")
    assert after == ids_of(codec, ".")
    assert after != ids_of(codec, "a .")[-1:]


def masked(codec: Codec, prompt: str, word: str) -> list[int]:
    """The prompt with its blank filled by the word, encoded whole, and MASK then in the place of
    the word's ids."""
    start = len(ids_of(codec, prompt.split(BLANK)[0]))
    whole = ids_of(codec, prompt.replace(BLANK, word))
    end = next(
        e for e in range(start + 1, len(whole) + 1) if codec.decode(whole[start:e]).strip() == word
    )
    return [*whole[:start], MASK, *whole[end:]]


@pytest.mark.parametrize("run", ["bert", "bidirectional_pieces", "bidirectional"])
@torch.inference_mode()
def test_blank_is_filled_with_the_likeliest_tokens_in_context(run: str, done: Path) -> None:
    codec, model = codec_of(done, RUNS[run]), checkpoint.load_model(done / "data/models" / run, CPU)
    samples = tables.read(
        done / "data/predictions" / run / "samples.parquet", tables.SAMPLES
    ).to_pylist()
    assert [sample["prompt"] for sample in samples] == list(PROMPTS)
    for sample in samples:
        ids = masked(codec, sample["prompt"], "the")
        if run == "bert":
            prompt, segment_BS = mlm.prompt(pa.array([ids], pa.list_(pa.int32())), CPU)
            hidden_NH = model.read(prompt, segment_BS)[prompt.ids_BS == MASK]
        else:
            table = pa.chunked_array(
                [pa.array([[4 if i == MASK else i for i in ids]], pa.list_(pa.int32()))]
            )
            batch = fill_blank.batch(fill_blank.Ragged(table), np.array([0]), CPU)
            hidden_NH = model.hidden(batch.ids_BT, batch.length_B)[0, [ids.index(MASK)]]
        log_prob, word = model.project(hidden_NH).log_softmax(-1)[0].max(0)
        assert sample["log_prob"] == pytest.approx(float(log_prob), abs=1e-5)
        assert sample["text"] == sample["prompt"].replace(BLANK, codec.decode([int(word)]).strip())


@pytest.mark.parametrize("run", ["bidirectional", "bidirectional_pieces"])
def test_pseudo_perplexity_is_that_of_the_predictions_of_every_word(run: str, done: Path) -> None:
    found = json.loads((done / f"reports/metrics/{run}.json").read_text())
    for split in ("test", "valid"):
        texts = tables.read(done / f"data/encoded/{RUNS[run]}/{split}.parquet", tables.ENCODED_TEXT)
        rows = tables.read(
            done / f"data/predictions/{run}/likelihood_{split}.parquet", tables.LIKELIHOOD
        )
        assert rows["row"].equals(texts["row"])
        assert rows["count"].to_pylist() == [len(ids) for ids in texts["ids"].to_pylist()], (
            "no end of text is guessed"
        )
        tokens = tables.read(done / f"data/tokens/{RUNS[run]}/{split}.parquet", tables.TOKENS_TEXT)[
            "tokens"
        ]
        letters = unknown(tokens, done / f"data/encoded/{RUNS[run]}", split, "text").nats_N.sum()
        nats, words = np.sum(rows["nats"].to_numpy()) + letters, np.sum(rows["count"].to_numpy())
        scores = found[split]
        assert scores["pseudo_perplexity"]["score"] == pytest.approx(np.exp(nats / words), rel=1e-5)
        assert (
            scores["pseudo_perplexity"]["low"]
            < scores["pseudo_perplexity"]["score"]
            < scores["pseudo_perplexity"]["high"]
        )
        assert (scores["words"], scores["rows"]) == (words, len(texts))
        assert "perplexity" not in scores


def section(text: str, title: str) -> str:
    """What stands under a heading of the second level."""
    [found] = re.findall(
        rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL
    )
    return str(found)


def test_blank_fillers_have_a_table_of_their_own_in_the_report(done: Path) -> None:
    text = (done / "reports/comparison.md").read_text(encoding="utf-8")
    fillers, models = (
        section(text, "Blank fillers on toy_story"),
        section(text, "Language models on toy_story"),
    )
    assert "`bidirectional`" in fillers
    assert "`bidirectional`" not in models
    assert "`gru`" in models
    assert "`gru`" not in fillers
    heads = [
        next(line for line in part.splitlines() if line.startswith("| "))
        for part in (fillers, models)
    ]
    assert "pseudo-perplexity" in heads[0]
    assert "pseudo-perplexity" not in heads[1]
    score = json.loads((done / "reports/metrics/bidirectional.json").read_text())["test"][
        "pseudo_perplexity"
    ]["score"]
    assert f"| {score:.2f} [" in fillers
    assert PROMPTS[0].split(BLANK)[0] in fillers
