"""The report: what it says of made runs whose quality is known, that it says it twice the same, and
what it refuses."""

import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest
import stage_runs
import synthetic_runs
import yaml
from hypothesis import given
from hypothesis import strategies as st
from stage_runs import run_evaluate

from pipeline.core import tables
from pipeline.core.errors import UserError
from pipeline.report import attention, document, page, results, style, summary
from pipeline.report.document import Heading, Paragraph, Table, Verbatim

ROOT = Path(__file__).parents[2]
TRANSLATORS = {"seq2seq": 0.5, "transformer": 0.05, "attention_seq2seq": 0.25}
MODELS = {"rnn": 2.6, "lstm": 2.1}


def run_report(root: Path) -> None:
    stage_runs.run(root, "report")


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose runs are evaluated; not to be changed."""
    root = synthetic_runs.project(tmp_path_factory.mktemp("report"), TRANSLATORS, MODELS, rows=80)
    for name in TRANSLATORS:
        run_evaluate(root, name, "pairs")
    for name in MODELS:
        run_evaluate(root, name, "story")
    return root


@pytest.fixture(scope="module")
def reported(evaluated: Path) -> Path:
    run_report(evaluated)
    return evaluated


@pytest.fixture
def project(evaluated: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    shutil.copytree(
        evaluated,
        tmp_path / "project",
        ignore=shutil.ignore_patterns("figures", "comparison.md", "index.html"),
    )
    return tmp_path / "project"


def table_after(text: str, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading."""
    lines = text.split(heading, 1)[1].splitlines()
    end = next((i for i, line in enumerate(lines) if line.startswith("#")), len(lines))
    rows = [line for line in lines[:end] if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


def metrics(root: Path, name: str) -> dict[str, Any]:
    return json.loads((root / f"reports/metrics/{name}.json").read_text())["test"]


@pytest.mark.long
def test_settings_with_one_seed_are_ranked_and_claim_nothing(reported: Path) -> None:
    text = (reported / "reports/comparison.md").read_text()
    header, _, *rows = table_after(text, "## Translators on pairs")
    assert [row[1] for row in rows] == ["`transformer`", "`attention_seq2seq`", "`seq2seq`"]
    assert {row[header.index("seeds")] for row in rows} == {"one seed"}
    assert {row[header.index("better than")] for row in rows} == {"no claim"}
    bleu = metrics(reported, "transformer")["bleu"]
    score, low, high = (f"{bleu[key]:.2f}" for key in ("score", "low", "high"))
    assert rows[0][header.index("BLEU")] == f"{score} [{low}, {high}]"
    assert rows[0][header.index("parameters")] == "123,456"
    assert "### Tests of settings (pairs)" not in text

    # The trained models themselves are compared.
    header, _, *rows = table_after(text, "### Tests of models (pairs)")
    assert [(row[0], row[-1]) for row in rows] == [
        ("`transformer` – `attention_seq2seq`", "yes"),
        ("`transformer` – `seq2seq`", "yes"),
        ("`attention_seq2seq` – `seq2seq`", "yes"),
    ]
    header, _, *rows = table_after(text, "## Language models on story")
    assert [row[1] for row in rows] == ["`lstm`", "`rnn`"]
    found = metrics(reported, "lstm")
    for title, key, form in (
        ("bits per character", "bits_per_character", "{:.3f}"),
        ("excess", "excess", "{:+.1%}"),
    ):
        score, low, high = (form.format(found[key + end]) for end in ("", "_low", "_high"))
        assert rows[0][header.index(title)] == f"{score} [{low}, {high}]"


@pytest.fixture
def cased(tmp_path: Path) -> Path:
    """References in capitals, which the worse run writes too and the better one never does."""
    root = synthetic_runs.project(
        tmp_path / "cased", {"seq2seq": 0.4, "transformer": 0.05}, {}, rows=60
    )
    for split in ("test", "test_long"):
        for path, column in (
            (root / f"data/tokens/pairs/{split}.parquet", "target"),
            (root / f"data/predictions/seq2seq/hypotheses_{split}.parquet", "text"),
        ):
            table = tables.pq.read_table(path)
            place = table.schema.get_field_index(column)
            tables.write(
                path,
                table.set_column(place, table.schema.field(place), pc.utf8_upper(table[column])),
            )
    return root


@pytest.mark.long
@pytest.mark.parametrize(
    ("lowercase", "order", "title", "other", "name", "key"),
    [
        (False, ["seq2seq", "transformer"], "BLEU", "BLEU, lowercased", "BLEU", "bleu"),
        (
            True,
            ["transformer", "seq2seq"],
            "BLEU, lowercased",
            "BLEU, cased",
            "lowercased BLEU",
            "bleu_lowercase",
        ),
    ],
)
def test_lowercased_corpus_is_scored_without_case_and_reported_so(
    cased: Path, lowercase: bool, order: list[str], title: str, other: str, name: str, key: str
) -> None:
    synthetic_runs.set_lowercase(cased, "pairs", lowercase)
    metrics = {run: run_evaluate(cased, run, "pairs")["test"] for run in order}
    run_report(cased)
    text = (cased / "reports/comparison.md").read_text()
    header, _, *rows = table_after(text, "## Translators on pairs")
    assert [row[1] for row in rows] == [f"`{run}`" for run in order]
    scores = [metrics[run][key]["score"] for run in order]
    assert [float(row[header.index(title)].split()[0]) for row in rows] == [
        pytest.approx(score, abs=6e-3) for score in scores
    ]
    assert f"`{order[0]}` has the best score, {name} {scores[0]:.2f}" in text
    header, _, pair = table_after(text, "### Tests of models (pairs)")
    assert header[1] == f"difference in {name}"
    assert pair[-1] == "yes"
    assert abs(float(pair[1])) == pytest.approx(scores[0] - scores[1], abs=6e-3)
    header, _, *rows = table_after(text, "### Further scores (pairs)")
    assert (other in header, title in header) == (True, False)
    assert ("exact match, lowercased" in header, "exact match" in header) == (
        lowercase,
        not lowercase,
    )
    assert f"[{name[:1].upper()}{name[1:]} by length, translators on pairs]" in text
    assert {"bleu", "bleu_lowercase"} <= {
        row[0] for row in table_after(text, "### Signatures (pairs)")
    }


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reported project with several seeds of two translators, and of one of two language
    models."""
    translators, models = (
        {"seq2seq": 0.52, "seq2seq-2": 0.5, "transformer": 0.05, "transformer-2": 0.06},
        {"lstm": 2.1, "rnn-2": 2.4, "rnn": 2.6, "rnn-3": 2.5},
    )
    root = synthetic_runs.project(tmp_path_factory.mktemp("seeds"), translators, models, rows=40)
    for name, corpus in [
        *((name, "pairs") for name in translators),
        *((name, "story") for name in models),
    ]:
        run_evaluate(root, name, corpus)
    run_report(root)
    return root


def test_settings_have_the_mean_and_deviation_over_their_seeds(seeded: Path) -> None:
    text = (seeded / "reports/comparison.md").read_text()
    for section, names, columns in (
        ("Translators on pairs", ["transformer", "transformer-2"], [("bleu", "BLEU", 2)]),
        (
            "Language models on story",
            ["rnn-2", "rnn", "rnn-3"],
            [("perplexity", "perplexity", 2), ("bits_per_character", "bits per character", 3)],
        ),
    ):
        header, _, *rows = table_after(text, f"## {section}")
        [row] = [row for row in rows if row[1] == f"`{names[-1].partition('-')[0]}`"]
        assert row[header.index("seeds")] == str(len(names))
        found = [metrics(seeded, name) for name in names]
        for key, title, digits in columns:
            values = [
                one[key]["score"] if isinstance(one[key], dict) else one[key] for one in found
            ]
            mean, deviation = np.mean(values), np.std(values, ddof=1)
            assert row[header.index(title)] == f"{mean:.{digits}f} ± {deviation:.{digits}f}"


def test_settings_with_several_seeds_are_tested(seeded: Path) -> None:
    text = (seeded / "reports/comparison.md").read_text()
    header, _, *rows = table_after(text, "## Translators on pairs")
    assert [row[header.index("better than")] for row in rows] == ["`seq2seq`", "–"]
    header, _, [pair, difference, *_, significant, _, _] = table_after(
        text, "### Tests of settings (pairs)"
    )
    assert (pair, significant) == ("`transformer` – `seq2seq`", "yes")
    scores = {
        name: np.mean([metrics(seeded, name + seed)["bleu"]["score"] for seed in ("", "-2")])
        for name in ("transformer", "seq2seq")
    }
    assert difference == f"{scores['transformer'] - scores['seq2seq']:+.2f}"
    assert "Minimum detectable difference (power about 80 %): " in text

    # One seed of the LSTM: no claim about it, and a test of the models alone.
    header, _, *rows = table_after(text, "## Language models on story")
    assert {row[1]: row[header.index("better than")] for row in rows} == {
        "`lstm`": "no claim",
        "`rnn`": "–",
    }
    assert "### Tests of settings (story)" not in text
    assert "### Tests of models (story)" in text


def test_summary_has_each_settings_score_for_dvc_metrics(seeded: Path) -> None:
    scores = json.loads((seeded / "reports/summary.json").read_text())
    values = [metrics(seeded, name)["perplexity"]["score"] for name in ("rnn-2", "rnn", "rnn-3")]
    assert scores["rnn.perplexity"] == pytest.approx(np.mean(values), abs=1e-6)
    assert scores["rnn.deviation"] == pytest.approx(np.std(values, ddof=1), abs=1e-6)
    assert "lstm.perplexity" in scores
    assert "lstm.deviation" not in scores, "it has one seed"


def test_summary_has_all_scores_before_the_deviations(seeded: Path) -> None:
    """`dvc exp show` cuts off the last columns."""
    names = list(json.loads((seeded / "reports/summary.json").read_text()))
    are_deviations = [name.endswith(".deviation") for name in names]
    assert are_deviations == sorted(are_deviations)
    assert any(are_deviations)


def test_summary_names_the_corpora_of_a_setting_on_several() -> None:
    def group(corpus: str, *settings: str) -> SimpleNamespace:
        return SimpleNamespace(
            task=SimpleNamespace(main="bleu"),
            split="valid",
            corpus=corpus,
            fold_of=None,
            settings=[SimpleNamespace(name=name, values=lambda key: [1.0]) for name in settings],
        )

    content = summary.to_json([group("de", "small", "big"), group("fr", "small")], [])
    assert json.loads(content) == dict.fromkeys(
        ("de.small.valid_bleu", "big.valid_bleu", "fr.small.valid_bleu"), 1.0
    )


def test_every_row_of_every_table_has_as_many_cells_as_its_header(reported: Path) -> None:
    text = (reported / "reports/comparison.md").read_text()
    for block in text.split("\n\n"):
        if block.startswith("|"):
            widths = {len(re.split(r"(?<!\\)\|", line)) for line in block.splitlines()}
            assert len(widths) == 1, block


def test_report_shows_samples_settings_and_signatures(reported: Path) -> None:
    text = (reported / "reports/comparison.md").read_text()
    header, _, *rows = table_after(text, "### Sample sentences (pairs)")
    assert header == ["prompt", "reference", "run", "output", "book's BLEU"]
    assert len(rows) == 12
    assert "learning_rate 0.002" in text
    assert "tok:13a" in text


@pytest.mark.long
def test_runs_that_are_no_longer_in_the_params_are_not_reported(project: Path) -> None:
    params = yaml.safe_load((project / "params.yaml").read_text())
    del params["runs"]["seq2seq"]
    (project / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    run_report(project)
    _, _, *rows = table_after(
        (project / "reports/comparison.md").read_text(), "## Translators on pairs"
    )
    assert [row[1] for row in rows] == ["`transformer`", "`attention_seq2seq`"]
    assert not list((project / "reports/figures").glob("*_seq2seq_seq2seq*"))


def test_figures_are_drawn_and_linked_from_where_the_comparison_lies(reported: Path) -> None:
    linked = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", (reported / "reports/comparison.md").read_text())
    drawn = [path for path in (reported / "reports/figures").rglob("*") if path.is_file()]
    made = {str(path.relative_to(reported / "reports")) for path in drawn}
    assert set(linked) == made
    assert {
        "figures/learning_curves_translation_pairs.png",
        "figures/by_length_translation_pairs.png",
    } <= made
    assert "figures/transformer/attention_1.png" in made
    assert "figures/seq2seq/attention_1.png" not in made
    for path in drawn:
        content = path.read_bytes()
        assert content.startswith(b"\x89PNG")
        assert b"Software" not in content


class Collector(HTMLParser):
    """Where a page points to, and whether its tags close."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.opened: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "input", "wbr"):
            self.opened.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.opened.pop() == tag


def test_the_page_needs_nothing_else(reported: Path) -> None:
    content, found = (reported / "reports/index.html").read_text(), Collector()
    found.feed(content)
    assert not found.opened
    assert found.sources
    assert all(source.startswith("#") for source in found.sources)
    assert "http" not in content
    assert "<script" not in content
    ids = re.findall(r' id="([^"]*)"', content)
    assert len(ids) == len(set(ids))
    assert {source.removeprefix("#") for source in found.sources} <= set(ids)


def test_reporting_twice_gives_the_same_bytes(reported: Path, project: Path) -> None:
    run_report(project)
    for path in (reported / "reports").rglob("*"):
        if path.is_file() and not path.name.startswith("."):
            assert (project / path.relative_to(reported)).read_bytes() == path.read_bytes(), (
                path.name
            )


def test_a_run_without_scores_is_refused_in_one_line(project: Path) -> None:
    (project / "reports/metrics/lstm.json").unlink()
    command, environment = (
        [sys.executable, "-m", *stage_runs.words("report")],
        os.environ | {"PYTHONPATH": str(ROOT)},
    )
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == (
        "seqline: reports/metrics/lstm.json: got no such file; expected the scores of the run "
        "lstm. Run `dvc repro -f evaluate@lstm`.\n"
    )
    assert not (project / "reports/comparison.md").exists()


def test_scores_on_different_rows_are_refused(project: Path) -> None:
    path = project / "data/scores/rnn/test.parquet"
    tables.write(path, tables.read(path, tables.SCORES_TEXT).slice(3))
    with pytest.raises(UserError, match=r"got \d+ rows; expected the \d+ rows of"):
        run_report(project)


def test_scores_of_another_corpus_are_refused(project: Path) -> None:
    path = project / "reports/metrics/lstm.json"
    path.write_text(path.read_text().replace('"story"', '"time_machine"'))
    with pytest.raises(UserError, match="expected language_model on story"):
        run_report(project)


def test_better_than_is_consistent_with_the_ranking(evaluated: Path) -> None:
    for group in results.groups(
        evaluated / "params.yaml", evaluated / "reports/metrics", evaluated / "data/scores"
    ):
        names = [setting.name for setting in group.settings]
        for rank, name in enumerate(names):
            assert set(group.beaten_by(name, 0.05)) <= set(names[rank + 1 :])


def test_text_out_of_the_data_is_shown_as_it_is(tmp_path: Path) -> None:
    nasty = "<script>alert(1)</script> | `x` **b** & \\ \n next"
    blocks = [
        Heading(1, "T"),
        Paragraph("`code` & **bold**"),
        Table(("a", "b"), ((Verbatim(nasty), "`x|y`"),), (False, True)),
    ]
    text = document.markdown(blocks, tmp_path)
    rendered = page.render(blocks, "T")
    assert "<script>" not in rendered
    assert "&lt;script&gt;alert(1)&lt;/script&gt; | `x` **b** &amp; \\" in rendered
    assert "<code>code</code> &amp; <strong>bold</strong>" in rendered
    assert r"\<script\>" in text
    row = text.strip().splitlines()[-1]
    assert len(re.split(r"(?<!\\)\|", row)) == 4


def test_headings_of_equal_text_have_different_ids() -> None:
    texts = ["Scores", "Scores 2", "Scores", "scores", "é"]
    rendered = page.render([Heading(2, text) for text in texts], "T")
    ids = re.findall(r' id="([^"]*)"', rendered)
    assert ids == ["scores", "scores-2", "scores-3", "scores-4", "section"]
    assert re.findall(r'href="#([^"]*)"', rendered) == ids


def test_attention_shows_the_heads_of_the_last_layer_or_the_only_map(tmp_path: Path) -> None:
    names = ["layer 10 head 2", "layer 2 head 1", "layer 10 head 1", "layer 9 head 1"]
    assert [
        one["name"] for one in attention.last_layer([{"name": name} for name in names])
    ] == names[2::-2]
    assert [one["name"] for one in attention.last_layer([{"name": "attention"}])] == ["attention"]
    words = ["$a$", "_", " ", "<eos>"]
    for heads in (1, 3, 8):
        rows = [
            (0, f"layer 1 head {head + 1}", words, words[:2], [0.25] * 8) for head in range(heads)
        ]
        table = synthetic_runs._table(list(zip(*rows, strict=True)), tables.ATTENTION)
        attention.heatmap(table, 0, tmp_path / f"{heads}.png")
        assert (tmp_path / f"{heads}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.long
@given(st.lists(st.floats(0, 200), min_size=1, max_size=12))
def test_labels_keep_their_order_and_their_distance(wanted: list[float]) -> None:
    found = style.spread(wanted, 13.0, 0.0, 200.0)
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    assert all(found[b] - found[a] >= 13.0 - 1e-6 for a, b in pairwise(order))
    assert len(wanted) > 8 or all(-1e-6 <= at <= 200 + 1e-6 for at in found)
    if np.diff(sorted(wanted)).min(initial=13.0) >= 13.0:
        assert found == pytest.approx(wanted)
