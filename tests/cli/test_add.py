"""`seqline add`: a file of one's own becomes a corpus, and a family a run on it, while all other
lines of params.yaml stay."""

import json
from pathlib import Path
from typing import Any

import fast_yaml
import numpy as np
import pytest
import stage_runs
import yaml

from pipeline.cli import add_run, params_text
from pipeline.cli.corpus_counts import Counts
from pipeline.core import config, params
from pipeline.core.errors import UserError

WORDS = {"cat": "chat", "dog": "chien", "king": "roi", "queen": "reine", "bird": "oiseau"}
VERBS = {"sees": "voit", "loves": "aime", "hears": "entend", "knows": "connaît"}
PAIRS = [
    (f"The {a} {verb} the {b} {number} .", f"le {WORDS[a]} {VERBS[verb]} le {WORDS[b]} {number} .")
    for number in range(3)
    for a in WORDS
    for verb in VERBS
    for b in WORDS
]
REVIEWS = [
    (f"The {a} is {word} .", star) for a in WORDS for word, star in [("good", 5), ("bad", 1)]
]


def content(root: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
    return loaded


def write_tsv(path: Path) -> Path:
    lines = ["id\ten\tfr", *(f"{n}\t{en}\t{fr}" for n, (en, fr) in enumerate(PAIRS)), "one\ttwo"]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_csv(path: Path) -> Path:
    lines = ["Review;Stars", *(f'"{text}; it is so";{star}' for text, star in REVIEWS * 8)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def added_lines(before: str, after: str) -> list[str]:
    """Lines that came in; all others are there as before, in their order."""
    new, rest = [], iter(before.splitlines())
    expected = next(rest, None)
    for line in after.splitlines():
        if line == expected:
            expected = next(rest, None)
        else:
            new.append(line)
    assert expected is None
    return new


def test_a_tsv_of_pairs_becomes_a_corpus_and_nothing_else_changes(project, seqline) -> None:
    write_tsv(project / "pairs.tsv")
    before = (project / "params.yaml").read_text(encoding="utf-8")
    result = seqline(project, "add", "corpus", "pairs.tsv")
    assert (result.status, result.err) == (0, "")
    after = (project / "params.yaml").read_text(encoding="utf-8")
    new = added_lines(before, after)
    assert next(line for line in new if line).startswith("  pairs: # 300 pairs for training")
    block = content(project)["corpora"]["pairs"]
    assert block["format"] == "tsv"
    assert block["source"] == {"path": "pairs.tsv"}
    assert block["read"] == {
        "files": {"all": ["pairs.tsv"]},
        "columns": {"source": "en", "target": "fr"},
    }
    assert block["split"] == {"method": "hash", "valid": 0.1, "test": 0.1}
    assert [(sample["prompt"], sample["reference"]) for sample in block["samples"]] == PAIRS[:3]
    for part in ("pairs.tsv: tsv, columns id, en, fr", "source: en, target: fr", "300 pairs"):
        assert part in result.out
    assert "rejected: 1 × columns: 2, expected 3" in result.out
    assert "seqline add run FAMILY pairs" in result.out
    assert "transformer" in result.out.splitlines()[-1]
    assert seqline(project, "check").status == 0


def test_a_corpus_keeps_its_capitals_if_asked(project, seqline) -> None:
    names = ["Berlin", "Bremen", "Bonn", "Dresden", "Leipzig"]
    rows = [
        f"Ich mag {names[i % 5]} am Tag {i} .\tI like {names[i % 5]} on day {i} ."
        for i in range(60)
    ]
    (project / "cities.tsv").write_text("\n".join(["de\ten", *rows]) + "\n")
    remark = "texts are read in lower case; --keep-case keeps capitals"
    assert remark in seqline(project, "add", "corpus", "cities.tsv", "--name", "lower").out
    result = seqline(project, "add", "corpus", "cities.tsv", "--keep-case")
    assert (result.status, result.err) == (0, "")
    assert remark not in result.out
    blocks = content(project)["corpora"]
    assert [blocks[name]["text"]["lowercase"] for name in ("lower", "cities")] == [True, False]


def test_a_csv_of_labels_becomes_a_corpus_of_labelled_texts(project, seqline) -> None:
    write_csv(project / "My reviews.csv")
    result = seqline(project, "add", "corpus", "My reviews.csv")
    assert (result.status, result.err) == (0, "")
    block = content(project)["corpora"]["my_reviews"]
    assert block["read"]["columns"] == {"text": "Review", "label": "Stars"}
    assert block["read"]["separator"] == ";"
    assert block["split"]["method"] == "contiguous"  # few rows of each label
    assert "2 labels: 5 40, 1 40" in result.out


@pytest.mark.parametrize("family", [pytest.param("transformer", marks=pytest.mark.long), "ibm1"])
def test_a_tsv_is_trained_and_scored(family: str, project, seqline) -> None:
    write_tsv(project / "pairs.tsv")
    assert seqline(project, "add", "corpus", "pairs.tsv").status == 0
    assert seqline(project, "add", "run", family, "pairs", "--setting", "mine").status == 0
    run_small(project, "pairs", "mine-1")
    metrics = json.loads((project / "reports/metrics/mine-1.json").read_text())
    assert 0 <= metrics["test"]["bleu"]["score"] <= 100
    counted = json.loads((project / "reports/corpora/pairs.json").read_text())["splits"]
    assert sum(split["rows"] for split in counted.values()) == len(PAIRS)
    rejects = [split["rejected"] for split in counted.values() if split["rejected"]]
    assert rejects == [{"columns: 2, expected 3": 1}]


def test_a_csv_of_labels_is_trained_and_scored(project, seqline) -> None:
    write_csv(project / "reviews.csv")
    assert seqline(project, "add", "corpus", "reviews.csv").status == 0
    assert seqline(project, "add", "run", "text_cnn", "reviews").status == 0
    run_small(project, "reviews", "reviews_text_cnn-1")
    metrics = json.loads((project / "reports/metrics/reviews_text_cnn-1.json").read_text())
    assert set(metrics["test"]["labels"]) == {"1", "5"}


def test_labelled_pairs_are_fitted_and_scored(project, seqline) -> None:
    lines = [
        f"{a} {verb} {b} .\t{c} {verb} {b} .\t{'same' if a == c else 'other'}"
        for a in WORDS
        for verb in VERBS
        for b in WORDS
        for c in (a, "cat", "dog")
    ]
    (project / "nli.tsv").write_text("\n".join(["premise\thypothesis\tlabel", *lines]) + "\n")
    assert seqline(project, "add", "corpus", "nli.tsv").status == 0
    assert content(project)["corpora"]["nli"]["samples"][0]["prompt"].count("\t") == 1
    assert seqline(project, "add", "run", "overlap_classifier", "nli").status == 0
    assert seqline(project, "check").status == 0
    run_small(project, "nli", "nli_overlap_classifier-1")
    metrics = json.loads((project / "reports/metrics/nli_overlap_classifier-1.json").read_text())
    assert metrics["test"]["accuracy"]["score"] > 60


def run_small(root: Path, corpus: str, run: str) -> None:
    """The corpus's and the run's stages, with a training of an epoch."""
    values = content(root)
    setting = values["settings"][values["runs"][run]["setting"]]
    if setting["training"] is not None:
        setting["training"]["max_epochs"] = 1
        setting["objective"]["batch_tokens"] = 1000
    values["compute"]["device"] = "cpu"
    values["evaluation"]["bootstrap"] = 20
    (root / "params.yaml").write_text(fast_yaml.dump(values))
    for stage in ("download", "tokenize", "vocab", "encode"):
        stage_runs.run(root, stage, corpus)
    stage_runs.run(root, "scratch")
    for stage in ("train", "predict", "evaluate"):
        stage_runs.run(root, stage, run)


def test_runs_have_sizes_for_the_corpus_and_a_seed_each(project, seqline) -> None:
    write_tsv(project / "pairs.tsv")
    seqline(project, "add", "corpus", "pairs.tsv")
    before = (project / "params.yaml").read_text(encoding="utf-8")
    result = seqline(project, "add", "run", "transformer", "pairs", "--seeds", "2")
    assert (result.status, result.err) == (0, "")
    added_lines(before, (project / "params.yaml").read_text(encoding="utf-8"))
    path = project / "params.yaml"
    blocks = [params.run(path, f"pairs_transformer-{seed}") for seed in (1, 2)]
    assert [block.seed for block in blocks] == [1, 2]
    assert "pairs_transformer-3" not in content(project)["runs"]
    assert blocks[0].task == "translation"
    assert blocks[0].training["max_epochs"] == 40
    assert blocks[0].objective["batch_tokens"] == 128
    assert "seqline run evaluate@pairs_transformer-1 evaluate@pairs_transformer-2" in result.out
    assert seqline(project, "check").status == 0


def test_a_family_without_random_numbers_gets_one_run(project, seqline) -> None:
    write_csv(project / "reviews.csv")
    seqline(project, "add", "corpus", "reviews.csv")
    result = seqline(project, "add", "run", "nbsvm", "reviews")
    assert result.status == 0
    assert [name for name in content(project)["runs"] if "reviews_nbsvm" in name] == [
        "reviews_nbsvm-1"
    ]
    assert "one seed" in result.out


@pytest.mark.parametrize(
    ("rows", "length", "grow"), [(1_000, 10, 1), (100_000, 10, 2), (1_000_000, 10, 4)]
)
def test_sizes_grow_with_the_corpus(rows: int, length: int, grow: int) -> None:
    lengths = np.full(rows, length)
    counts = Counts(rows=rows, lengths={"source": lengths, "target": lengths})
    setting = content(Path(__file__).parents[2])["settings"]["transformer"]
    small = add_run.sized(setting, counts, {"level": "word"})
    assert small["model"]["width"] == 96 * grow
    assert small["model"]["heads"] == setting["model"]["heads"]
    assert small["optim"]["learning_rate"] == pytest.approx(0.003 / grow)
    assert small["model"]["dropout"] == {1: 0.3, 2: 0.2, 4: 0.1}[grow]
    assert small["objective"]["max_length"] == 16
    assert 3 <= small["training"]["max_epochs"] <= 40
    assert setting == content(Path(__file__).parents[2])["settings"]["transformer"]
    chosen = add_run.sized(setting, counts, {"level": "word"}, keeps_model=True)
    assert chosen["model"] == setting["model"]
    assert chosen["optim"]["learning_rate"] == pytest.approx(0.003)


@pytest.mark.parametrize(
    ("write", "arguments", "message"),
    [
        (None, ["x.csv"], "FILE: got x.csv; expected a file, zip or folder. C"),
        (b"en,fr\n", ["y.csv"], "FILE: got y.csv; expected a file, zip or folder. Did you mean "),
        (b"", ["x.csv"], "x.csv: got an empty file; expected at least one line"),
        (b"en,fr\ncaf\xe9,b\n", ["x.csv"], "x.csv: got byte 0xe9 at offset 9, line 2; expected"),
        (b"en,fr\n", ["x.csv"], "x.csv: got no row; expected one row at least, below the heading."),
        (b"en,fr\na\n", ["x.csv"], "got no usable row (1 × columns: 1, expected 2); expected"),
        (b"en,fr\na,b\n", ["x.csv", "--text", "text"], "--text: got text; expected one of the "),
        (
            b"text,label\na,b\n",
            ["x.csv", "--text", "text", "--label", "lable"],
            "--label: got lable; expected one of the columns text, label. Did you mean 'label'?",
        ),
        (b"en,fr\na,b\n", ["x.csv", "--text", "en", "--target", "fr"], "columns: got target, text"),
        (b"en,fr\na,b\n", ["x.csv", "--name", "toy_story"], "corpora.toy_story: got a block that "),
        (b"en,fr\na,b\n", ["x.csv", "--name", "../x"], "--name: got ../x; expected a name of "),
        (b"PK\3\4", ["x.csv"], "FILE: got x.csv, which cannot be unpacked"),
    ],
)
def test_a_file_that_makes_no_corpus_is_refused_and_nothing_written(
    write: bytes | None, arguments: list[str], message: str, project, seqline
) -> None:
    before = (project / "params.yaml").read_bytes()
    if write is not None:
        (project / "x.csv").write_bytes(write)
    result = seqline(project, "add", "corpus", *arguments)
    assert (result.status, result.out) == (2, "")
    assert message in result.err
    assert result.err.count("\n") == 1
    assert (project / "params.yaml").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["transformer", "nothing"], "CORPUS: got nothing; expected one of toy_story, "),
        (
            ["attention_s2s", "toy_en_fr"],
            "FAMILY: got attention_s2s; expected one of seq2seq, attention_seq2seq, transformer, "
            "translation_memory, ibm1, conv_seq2seq for toy_en_fr, which is pair. Did you mean "
            "'attention_seq2seq'?",
        ),
        (
            ["text_cnn", "mine"],
            "FAMILY: got text_cnn; expected one of seq2seq, attention_seq2seq, ",
        ),
        (["transformer", "toy_en_fr"], "corpora.toy_en_fr: got a corpus that was not downloaded"),
        (["transformer", "mine", "--setting", "transformer"], "settings.transformer: got a block"),
        (["transformer", "mine", "--setting", "A b"], "--setting: got A b; expected a name of "),
        (["transformer", "mine", "--seeds", "0"], "--seeds: got 0; expected a whole number from"),
    ],
)
def test_a_run_that_cannot_be_is_refused_and_nothing_written(
    arguments: list[str], message: str, project, seqline
) -> None:
    write_tsv(project / "mine.tsv")
    seqline(project, "add", "corpus", "mine.tsv")
    before = (project / "params.yaml").read_bytes()
    result = seqline(project, "add", "run", *arguments)
    assert (result.status, result.out) == (2, "")
    assert message in result.err
    assert result.err.count("\n") == 1
    assert (project / "params.yaml").read_bytes() == before


def test_a_family_that_begins_from_another_run_is_refused(project, seqline) -> None:
    write_csv(project / "reviews.csv")
    seqline(project, "add", "corpus", "reviews.csv")
    result = seqline(project, "add", "run", "bert_classifier", "reviews")
    assert result.status == 2
    assert "FAMILY: got bert_classifier; expected one that begins from scratch" in result.err


def test_the_name_of_a_setting_leads_to_its_family(project, seqline) -> None:
    result = seqline(project, "add", "run", "gru", "toy_story")
    assert result.status == 2
    assert result.err == (
        "seqline: FAMILY: got gru, which is a setting of the family recurrent_lm; expected the "
        "name of a family. Run `seqline add run recurrent_lm toy_story`.\n"
    )


# The text of params.yaml


@pytest.mark.parametrize(
    "value",
    ["no", "y", "1", "1.5", "null", "", "a b", "é", 'a"b', "a: b", "#x", "\u2028", "2024-01-01"],
)
def test_any_text_stays_a_text_in_every_version_of_yaml(value: str, tmp_path) -> None:
    (tmp_path / "x.yaml").write_text(f"a: {params_text.flow({'b': [value]})}\n", encoding="utf-8")
    assert config.read(tmp_path / "x.yaml") == {"a": {"b": [value]}}


def test_numbers_have_no_exponent(tmp_path) -> None:
    values = [0.00001, 1e-7, 0.003, 1.0, 3, True, None]
    assert "e" not in params_text.flow(values[:5])
    assert yaml.safe_load(params_text.flow(values)) == values


def test_a_block_goes_to_the_end_of_its_section() -> None:
    text = "a:\n  # first\n  x: {b: 1}\n\n  y:\n    b: 2 # two\n\n# about c\nc: 1\n"
    new = params_text.with_block(text, "a", params_text.block("z", {"b": 3}, "mine"))
    assert new == text.replace("2 # two\n", "2 # two\n\n  z: # mine\n    b: 3\n")
    text = "c: 1\na:\n    x: {b: 1}"
    new = params_text.with_block(text, "a", params_text.block("z", {"b": 3}, ""))
    assert new == "c: 1\na:\n    x: {b: 1}\n    z:\n      b: 3\n"


@pytest.mark.parametrize("text", ["a: {}\n", "a: {x: {b: 1}}\n", "b: 1\n", "a:\nb: 1\n"])
def test_a_section_without_lines_of_blocks_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="a: got nothing to add to; expected a section with a blo"):
        params_text.with_block(text, "a", ["z: 1"])


@pytest.mark.parametrize(
    ("preset", "message"),
    [
        (
            b"settings: {}\n",
            "presets/mine.yaml, corpora: got None; expected a section with blocks.",
        ),
        (
            b"corpora: {}\nsettings: {}\nruns: {a: {setting: b}}\n",
            "presets/mine.yaml, runs.a: got {'setting': 'b'}; expected a section with the keys ",
        ),
        ("# é\n".encode("latin-1"), "presets/mine.yaml: got byte 0xe9"),
    ],
)
def test_an_unfinished_preset_is_refused_before_a_block_is_written(
    preset: bytes, message: str, project, seqline
) -> None:
    (project / "presets/mine.yaml").write_bytes(preset)
    (project / "reviews.csv").write_text("text,label\nso good it is,1\nso bad it is,0\n")
    before = (project / "params.yaml").read_bytes()
    result = seqline(project, "add", "corpus", "reviews.csv")
    assert result.status == 2
    assert result.err.startswith(f"seqline: {message}"), result.err
    assert result.err.count("\n") == 1
    assert (project / "params.yaml").read_bytes() == before


@pytest.mark.parametrize("name", ["family", "2024", "null"])
def test_a_text_that_is_not_printable_and_a_name_that_is_no_text_are_written(
    name: str, project, seqline
) -> None:
    """A family emoji has joiners between characters beyond the basic plane."""
    file = project / f"{name}.csv"
    file.write_text(
        "text,label\na \U0001f468\u200d\U0001f469 is here,1\nso bad it is,0\n", encoding="utf-8"
    )
    result = seqline(project, "add", "corpus", file.name)
    assert (result.status, result.err) == (0, "")
    block = config.section(project / "params.yaml", "corpora")[name]
    assert "a \U0001f468\u200d\U0001f469 is here" in [row["prompt"] for row in block["samples"]]
    assert block["vocab"]["corpus"] == name
