"""The predict stage as DVC runs it, and sessions of a trained run, on small models with random
weights."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import default_params
import numpy as np
import pyarrow as pa
import pytest
import stage_runs
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.contracts import EOS, Sizes
from pipeline.core import params, tables
from pipeline.core.errors import UserError
from pipeline.inference import Session, batches, load_run
from pipeline.predictions import PredictionRequest, write_samples
from pipeline.text import vocab
from pipeline.text.encode import Codec, Description
from pipeline.text.tokens import split
from pipeline.training import checkpoint

WORDS = {
    "source": ["the", "small", "cat", "sleeps", "and", "dog", "a", "runs", "."],
    "target": ["le", "petit", "chat", "dort", "chien", "un", "court", "."],
}
FREE = {"min_length": 1, "no_repeat_ngram": None}
PENALTY = {"length": "book", "alpha": 0.75, "coverage": 0.0}
BEAM = {
    "method": "beam",
    "width": 3,
    "n_best": 2,
    "max_length": 9,
    "penalty": PENALTY,
    "constraints": FREE,
}
TRAINING = {
    "max_epochs": 1,
    "patience": None,
    "accumulate": 1,
    "average": None,
    "precision": "float32",
    "threads": 1,
}
TRANSLATION = {
    "task": "translation",
    "objective": {
        "batch_tokens": 500,
        "label_smoothing": 0.1,
        "max_length": 64,
        "scheduled_sampling": None,
        "padding_in_loss": False,
    },
}
STORY = {
    "task": "language_model",
    "objective": {
        "batch_size": 2,
        "steps": 4,
        "sampling": "sequential",
        "max_train_tokens": None,
        "softmax_words": None,
    },
    "search": {
        "method": "sampling",
        "temperature": 1.0,
        "top_k": 6,
        "top_p": 0.9,
        "max_length": 30,
        "constraints": FREE,
    },
}
RUNS: dict[str, dict[str, Any]] = {
    "transformer": TRANSLATION
    | {
        "corpus": "pairs",
        "model": {
            "width": 16, "heads": 2, "feed_forward": 16, "encoder_layers": 1, "decoder_layers": 2,
            "dropout": 0.1, "norm": "layer", "norm_first": True,
            "learned_positions": None, "tied": "none", "variants": [], "implementation": "fused",
        },
    },
    "attention_seq2seq": TRANSLATION
    | {
        "corpus": "pairs",
        "model": {
            "cell": "gru", "score": "additive", "embedding": 8, "hidden": 12, "layers": 1,
            "dropout": 0.1, "bidirectional": True, "implementation": "fused",
        },
    },
    "recurrent_lm": STORY
    | {
        "corpus": "story",
        "model": {"cell": "lstm", "embedding": 8, "hidden": 12, "layers": 1, "dropout": 0.0,
                  "tied": False, "implementation": "fused"},
    },
}  # fmt: skip
TRANSLATORS = [name for name, block in RUNS.items() if block["task"] == "translation"]
SAMPLES = {
    "pairs": [
        {"prompt": "The cat runs.", "reference": "le chat court ."},
        {"prompt": "a dog", "reference": None},
    ],
    "story": [{"prompt": "the cat", "reference": None}, {"prompt": "", "reference": None}],
}


def sentences(words: list[str], count: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(words, rng.integers(1, 9))) for _ in range(count)]


def write_corpus(root: Path, corpus: str, sides: tuple[str, ...]) -> dict[str, int]:
    """A vocabulary, and encoded splits of unlike lengths in no order; the sizes of the sides."""
    folder, encoded = root / "data/vocab" / corpus, root / "data/encoded" / corpus
    folder.mkdir(parents=True)
    encoded.mkdir(parents=True)
    sizes = {}
    for side in sides:
        words = WORDS.get(side, WORDS["source"])
        table = vocab.table(
            vocab.count(split(pa.array(words), "word")),
            vocab.Vocab(corpus="c", size=None, min_count=1, share=False),
        )
        tables.write(folder / f"{side}.parquet", table)
        sizes[side] = len(table)
    Description(
        level="word",
        lowercase=True,
        letters_only=False,
        share=len(sides) == 1,
        sides=sides,
        sizes=sizes,
    ).save(folder)
    for seed, name in enumerate(("train", "valid", "test", "test_long")):
        texts = [pa.array(sentences(WORDS.get(side, WORDS["source"]), 70, seed)) for side in sides]
        ids = [
            Codec.load(folder, side).encode(column)
            for side, column in zip(sides, texts, strict=True)
        ]
        schema = tables.ENCODED_PAIR if len(sides) == 2 else tables.ENCODED_TEXT
        paragraph = [] if len(sides) == 2 else [[0] * 70]
        tables.write(
            encoded / f"{name}.parquet", pa.table([range(70), *ids, *paragraph], schema=schema)
        )
    return sizes


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two corpora, a model of each family, and the params.yaml that names them; all
    predicted once."""
    root = tmp_path_factory.mktemp("project")
    sizes = {
        "pairs": write_corpus(root, "pairs", ("source", "target")),
        "story": write_corpus(root, "story", ("text",)),
    }
    empty = {
        "format": "f",
        "source": {},
        "read": {},
        "limit": None,
        "split": "official",
        "text": {},
        "vocab": {},
    }
    runs = {
        name: {
            "family": name,
            "seed": 1,
            "init_from": "scratch",
            "optim": {},
            "training": TRAINING,
            "search": BEAM,
        }
        | block
        for name, block in RUNS.items()
    }
    content = {
        "compute": stage_runs.HERE,
        "evaluation": {"bootstrap": 20, "confidence": 0.95, "seed": 1, "test": True},
        "corpora": {name: empty | {"samples": samples} for name, samples in SAMPLES.items()},
        "runs": runs,
    }
    default_params.write(root, content)
    for name in RUNS:
        run = params.run(root / "params.yaml", name)
        first, *_, last = list(sizes[run.corpus].values()) * 2
        torch.manual_seed(3)
        model = checkpoint.build(
            name, run.model, Sizes(first, last, run.corpus == "story"), "model"
        )
        with torch.no_grad():
            model.output.bias[EOS] += 1.5  # so that sentences end
        folder = root / "data/models" / name
        folder.mkdir(parents=True)
        facts = {
            "run": asdict(run),
            "sizes": {"source": first, "target": last, "shared": run.corpus == "story"},
        }
        checkpoint.write_model(folder, model, facts)
        stage_runs.run(root, "predict", name)
    return root


def predicted(root: Path, name: str, file: str, schema: pa.Schema) -> pa.Table:
    return tables.read(root / f"data/predictions/{name}/{file}.parquet", schema)


def encoded(root: Path, name: str, split_name: str) -> pa.Table:
    schema = tables.ENCODED_PAIR if RUNS[name]["corpus"] == "pairs" else tables.ENCODED_TEXT
    return tables.read(root / f"data/encoded/{RUNS[name]['corpus']}/{split_name}.parquet", schema)


def session(root: Path, name: str, search: dict[str, Any] | None = None) -> Session:
    block = RUNS[name].get("search", BEAM) if search is None else search
    return Session.open(
        root / "data/models" / name, root / "data/vocab" / RUNS[name]["corpus"], block, "cpu"
    )


def bytes_of(root: Path, name: str) -> dict[str, bytes]:
    return {
        file.name: file.read_bytes()
        for file in sorted((root / "data/predictions" / name).iterdir())
    }


@pytest.mark.parametrize("name", RUNS)
def test_every_split_but_train_is_scored_row_by_row(project: Path, name: str) -> None:
    found = {file.stem for file in (project / "data/predictions" / name).iterdir()}
    assert {f for f in found if f.startswith("likelihood")} == {
        f"likelihood_{s}" for s in ("valid", "test", "test_long")
    }
    for split_name in ("valid", "test", "test_long"):
        scored, given = (
            predicted(project, name, f"likelihood_{split_name}", tables.LIKELIHOOD),
            encoded(project, name, split_name),
        )
        assert scored["row"].to_pylist() == list(range(70))
        lengths = [
            len(ids) + 1
            for ids in given["target" if "target" in given.column_names else "ids"].to_pylist()
        ]
        assert scored["count"].to_pylist() == lengths
        assert all(nats > 0 for nats in scored["nats"].to_pylist())


@pytest.mark.parametrize("name", TRANSLATORS)
def test_every_split_but_train_is_translated(project: Path, name: str) -> None:
    found = {file.stem for file in (project / "data/predictions" / name).iterdir()}
    assert {f for f in found if f.startswith("hypotheses")} == {
        f"hypotheses_{s}" for s in ("valid", "test", "test_long")
    }
    rows = predicted(project, name, "hypotheses_test", tables.HYPOTHESES).to_pylist()
    assert sorted({row["row"] for row in rows}) == list(range(70))
    assert [(row["row"], row["rank"]) for row in rows] == sorted(
        (row["row"], row["rank"]) for row in rows
    )
    by_place = {(row["row"], row["rank"]): row for row in rows}
    for (number, rank), row in by_place.items():
        assert rank == 0 or row["score"] <= by_place[number, rank - 1]["score"]


@pytest.mark.parametrize("name", RUNS)
def test_tuning_writes_no_file_of_test(project: Path, name: str, tmp_path: Path) -> None:
    root = Path(shutil.copytree(project, tmp_path / "project"))
    text = (root / "params.yaml").read_text(encoding="utf-8")
    (root / "params.yaml").write_text(text.replace("test: true", "test: false"), encoding="utf-8")
    shutil.rmtree(root / "data/predictions" / name)
    stage_runs.run(root, "predict", name)

    # The other files are those of a prediction with test.
    found = bytes_of(root, name)
    everything = bytes_of(project, name)
    assert found == {file: data for file, data in everything.items() if "_test" not in str(file)}
    assert len(found) < len(everything)


@pytest.mark.parametrize("name", RUNS)
def test_predicting_again_gives_the_same_bytes(project: Path, name: str) -> None:
    before = bytes_of(project, name)
    stage_runs.run(project, "predict", name)
    assert bytes_of(project, name) == before


@pytest.mark.parametrize("name", TRANSLATORS)
def test_batched_predictions_equal_single_predictions(project: Path, name: str) -> None:
    opened = session(project, name)
    texts = opened.source_codec.decode_batch(encoded(project, name, "test")["source"].to_pylist())
    rows = predicted(project, name, "hypotheses_test", tables.HYPOTHESES).to_pylist()
    for number in (0, 13, 69):
        [alone] = opened.translate([texts[number]])
        stored = [row for row in rows if row["row"] == number]
        assert [a.text for a in alone] == [row["text"] for row in stored]
        assert [a.score for a in alone] == pytest.approx([row["score"] for row in stored], rel=1e-5)


@pytest.mark.parametrize("name", TRANSLATORS)
def test_the_log_probability_that_search_reports_is_the_teacher_forced_one(
    project: Path, name: str
) -> None:
    opened = session(project, name)
    given = encoded(project, name, "test").slice(0, 20)
    _, prompt = next(opened.task.prompts(given, opened.device))
    order = np.concatenate([rows for rows, _ in opened.task.prompts(given, opened.device)])
    best = [answers[0] for answers in opened.run_search(prompt, opened.generator())]
    ended = [i for i, h in enumerate(best) if len(h.ids) < BEAM["max_length"]]
    assert len(ended) > 5
    sources = given["source"].take(pa.array(order))
    spoken = pa.table(
        [pa.array(range(20)), sources, pa.array([h.ids for h in best], pa.list_(pa.int32()))],
        schema=tables.ENCODED_PAIR,
    )
    nats, count = opened.task.likelihood(opened.model, spoken, None, opened.device)
    for i in ended:
        assert -nats[i] == pytest.approx(best[i].log_prob, rel=1e-4)
        assert best[i].score == pytest.approx(best[i].log_prob / count[i] ** PENALTY["alpha"])


def test_unconditional_sample_has_likelihood_of_a_first_row(project: Path) -> None:
    opened = session(project, "recurrent_lm")
    [[said]] = opened.run_search(opened.prompt([""]), opened.generator())
    assert len(said.ids) < RUNS["recurrent_lm"]["search"]["max_length"], "it came to an end"
    row = pa.table(
        [[0], pa.array([said.ids], pa.list_(pa.int32())), [0]], schema=tables.ENCODED_TEXT
    )
    nats, _ = opened.task.likelihood(opened.model, row, None, opened.device)
    assert -nats[0] == pytest.approx(said.log_prob, rel=1e-5)


def test_a_language_model_is_scored_but_not_decoded(project: Path) -> None:
    found = {file.stem for file in (project / "data/predictions/recurrent_lm").iterdir()}
    splits = {f"likelihood_{split}" for split in ("valid", "test", "test_long")}
    assert found == {"model", "samples", *splits}


@pytest.mark.parametrize("name", RUNS)
def test_every_sample_has_an_answer(project: Path, name: str) -> None:
    rows = predicted(project, name, "samples", tables.SAMPLES).to_pylist()
    asked = SAMPLES[RUNS[name]["corpus"]]
    assert [{key: row[key] for key in ("prompt", "reference")} for row in rows] == asked
    assert [row["row"] for row in rows] == list(range(len(asked)))
    assert all(row["log_prob"] < 0 for row in rows)


@pytest.mark.parametrize("name", TRANSLATORS)
def test_attention_covers_the_real_tokens_and_nothing_else(project: Path, name: str) -> None:
    samples = predicted(project, name, "samples", tables.SAMPLES).to_pylist()
    rows = predicted(project, name, "attention", tables.ATTENTION).to_pylist()
    assert {row["row"] for row in rows} == {0, 1}
    for row in rows:
        assert (
            row["columns"]
            == [["the", "cat", "runs", ".", "<eos>"], ["a", "dog", "<eos>"]][row["row"]]
        )
        weights = np.array(row["weights"]).reshape(len(row["rows"]), len(row["columns"]))
        assert weights.sum(1) == pytest.approx(1.0, abs=1e-5), "no weight fell on padding"
        said = [token for token in row["rows"] if token != "<eos>"]
        assert said == split(pa.array([samples[row["row"]]["text"]]), "word")[0].as_py()
        assert row["rows"][-1] == "<eos>" or len(said) == BEAM["max_length"]
    names = [row["name"] for row in rows if row["row"] == 0]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", TRANSLATORS)
def test_session_attention_matches_the_predict_stage(project: Path, name: str) -> None:
    rows = [
        r
        for r in predicted(project, name, "attention", tables.ATTENTION).to_pylist()
        if r["row"] == 1
    ]
    [(answer, alone)] = session(project, name).attention([SAMPLES["pairs"][1]["prompt"]])
    assert alone.rows == rows[0]["rows"]
    assert {row["name"] for row in rows} == set(alone.weights)
    assert answer.text == predicted(project, name, "samples", tables.SAMPLES)["text"][1].as_py()
    for row in rows:
        assert alone.weights[row["name"]].ravel() == pytest.approx(
            np.array(row["weights"]), abs=1e-5
        )


def test_a_session_translates_any_number_of_texts(project: Path) -> None:
    opened = session(project, "transformer")
    texts = sentences(WORDS["source"], 150, 9)
    many = opened.translate(texts)
    assert opened.translate([]) == []
    assert [a.text for a in many[149]] == [a.text for a in opened.translate([texts[149]])[0]]


def test_n_best_may_exceed_the_runs_setting(project: Path) -> None:
    opened = session(project, "transformer")
    [more] = opened.translate(["the cat runs ."], n_best=7)
    assert BEAM["n_best"] < len({answer.text for answer in more}) <= 7
    assert len(opened.translate(["the cat runs ."])[0]) == BEAM["n_best"]
    greedy = session(
        project, "transformer", {"method": "greedy", "max_length": 9, "constraints": FREE}
    )
    assert len(greedy.translate(["the cat runs ."], n_best=1)[0]) == 1
    with pytest.raises(UserError, match="n_best"):
        greedy.translate(["the cat runs ."], n_best=2)


@pytest.mark.parametrize("name", TRANSLATORS)
def test_every_answer_begins_with_its_texts_prefix(project: Path, name: str) -> None:
    opened = session(project, name)
    texts, prefixes = ["the cat runs .", "a dog", "the small dog sleeps ."], ["Le  chat", "", "un"]
    free, begun = opened.translate(texts), opened.translate(texts, prefixes=prefixes)
    assert all(answer.text.startswith("le chat") for answer in begun[0])
    assert all(answer.text.startswith("un") for answer in begun[2])
    assert [a.text for a in begun[1]] == [a.text for a in free[1]]
    [(answer, looked)] = opened.attention(texts[:1], prefixes[:1])
    assert (answer.text, looked.rows[:2]) == (begun[0][0].text, ["le", "chat"])


def test_prefix_that_cannot_be_encoded_is_refused(project: Path) -> None:
    with pytest.raises(
        UserError, match=r"^prefix: got le rhinocéros; expected words of the target vocabulary"
    ):
        session(project, "transformer").translate(["a dog"], prefixes=["le rhinocéros"])
    with pytest.raises(
        UserError, match=r"^prefix: got 9 tokens; expected fewer than search.max_length, 9"
    ):
        session(project, "transformer").translate(["a dog"], prefixes=["le " * 9])


def test_two_runs_together_answer_as_an_ensemble(project: Path, seqline, tmp_path: Path) -> None:
    (project / "dvc.yaml").write_bytes((Path(__file__).parents[2] / "dvc.yaml").read_bytes())
    (project / "presets").mkdir(exist_ok=True)
    texts = sentences(WORDS["source"], 5, 4)
    first, second = (session(project, name) for name in TRANSLATORS)
    mixed = [best[0] for best in first.ensemble([second]).translate(texts)]
    for text, answer, single in zip(
        texts, mixed, first.ensemble([first]).translate(texts), strict=True
    ):
        assert single[0].text == first.translate([text])[0][0].text
        assert answer.log_prob < 0

    both = [word for name in TRANSLATORS for word in ("--run", name)]
    (tmp_path / "texts").write_text("\n".join(texts))
    result = seqline(project, "translate", *both, "--file", str(tmp_path / "texts"))
    assert result == (0, "".join(f"{answer.text}\n" for answer in mixed), "")
    result = seqline(project, "translate", *both, texts[0], "--heatmap", "a.png")
    assert result.err.startswith("seqline: run: got ensemble; expected a model with attention")
    result = seqline(project, "translate", "a", "--run", "transformer", "--run", "recurrent_lm")
    assert result.status == 2
    line = "seqline: --run recurrent_lm: got the vocabulary data/vocab/story; expected data/vocab/"
    assert result.err.startswith(f"{line}pairs, as run transformer has.")


@pytest.mark.parametrize("name", TRANSLATORS)
def test_a_run_can_be_searched_with_every_penalty_and_constraint(project: Path, name: str) -> None:
    asked = {
        "penalty": {"length": "gnmt", "alpha": 0.6, "coverage": 0.2},
        "constraints": FREE | {"no_repeat_ngram": 1},
    }
    for answers in session(project, name, BEAM | asked).translate(
        sentences(WORDS["source"], 20, 2)
    ):
        assert all(answer.score < answer.log_prob / ((5 + 9) / 6) ** 0.6 for answer in answers)
        assert all(len(set(answer.text.split())) == len(answer.text.split()) for answer in answers)


def test_generated_text_continues_its_prefix(project: Path) -> None:
    opened = session(project, "recurrent_lm")
    texts = opened.generate(["The small  cat", "", "a dog"])
    assert texts[0].startswith("the small cat")
    assert texts[2].startswith("a dog")
    assert opened.generate(["The small  cat", "", "a dog"]) == texts
    assert len({opened.generate(["a dog"], seed)[0] for seed in range(5)}) > 1


def test_session_refuses_unsupported_requests(project: Path) -> None:
    with pytest.raises(UserError, match="generate"):
        session(project, "recurrent_lm").translate(["the cat"])
    with pytest.raises(UserError, match="translate"):
        session(project, "transformer").generate(["the cat"])
    with pytest.raises(UserError, match="a model with attention"):
        session(project, "recurrent_lm").attention(["the cat"])


def test_missing_run_or_vocabulary_is_refused_with_advice(project: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"dvc repro.*dvc pull"):
        load_run(tmp_path / "nothing", BEAM)
    with pytest.raises(UserError, match=r"dvc repro.*dvc pull"):
        Session.open(project / "data/models/transformer", tmp_path / "nothing", BEAM)
    assert load_run(project / "data/models/transformer", BEAM).corpus == "pairs"


def test_a_model_of_an_older_version_keeps_its_settings(project: Path, tmp_path: Path) -> None:
    model = tmp_path / "old"
    shutil.copytree(project / "data/models/transformer", model)
    content = json.loads((model / "config.json").read_text())
    content["run"]["start"] = content["run"].pop("init_from")
    (model / "config.json").write_text(json.dumps(content))
    assert load_run(model, BEAM) == load_run(project / "data/models/transformer", BEAM)


@pytest.mark.parametrize(
    ("search", "key"), [({"method": "beem"}, "search.method"), ({}, "search.method")]
)
def test_a_search_that_is_none_is_refused_by_its_key(
    project: Path, search: dict[str, Any], key: str
) -> None:
    with pytest.raises(UserError, match=rf"{key}: got .*one of beam, exhaustive, greedy, sampling"):
        session(project, "transformer", search)


def test_a_model_without_samples_still_has_the_file(project: Path, tmp_path: Path) -> None:
    write_samples(session(project, "transformer"), (), tmp_path)
    assert tables.read(tmp_path / "samples.parquet", tables.SAMPLES).num_rows == 0
    assert not (tmp_path / "attention.parquet").exists()


def test_an_encoded_folder_without_splits_is_refused(project: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="encode"):
        PredictionRequest(
            params.run(project / "params.yaml", "transformer"),
            "",
            tmp_path,
            tmp_path,
            tmp_path,
            (),
            torch.device("cpu"),
            test=True,
        ).splits()


def test_valid_alone_is_predicted_for_tuning(project: Path) -> None:
    request = PredictionRequest(
        params.run(project / "params.yaml", "transformer"),
        "",
        Path(),
        project / "data/encoded" / RUNS["transformer"]["corpus"],
        Path(),
        (),
        torch.device("cpu"),
        test=False,
    )
    assert request.splits() == ["valid"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", TRANSLATORS)
def test_gpu_predictions_match_cpu(project: Path, name: str) -> None:
    texts = sentences(WORDS["source"], 40, 9)
    there = Session.open(
        project / "data/models" / name, project / "data/vocab/pairs", BEAM, "cuda"
    ).translate(texts)
    assert [[a.text for a in best] for best in there] == [
        [a.text for a in best] for best in session(project, name).translate(texts)
    ]


@given(st.lists(st.integers(0, 300)), st.integers(1, 20), st.integers(1, 500))
def test_batches_hold_every_text_once_and_no_more_than_their_limits(
    lengths: list[int], max_texts: int, max_tokens: int
) -> None:
    parts = [lengths[batch] for batch in batches(lengths, max_texts, max_tokens)]
    assert [length for part in parts for length in part] == lengths
    for part in parts:
        assert 1 <= len(part) <= max_texts
        assert len(part) == 1 or len(part) * max(part) <= max_tokens
