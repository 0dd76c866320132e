"""The parts of the report's page that Markdown lacks: the overview, charts, maps, outputs side by
side, and statistics of the corpora."""

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import stage_runs
import synthetic_runs
from stage_runs import run_evaluate

from pipeline.core.errors import UserError
from pipeline.report import confusion, corpora, heat_table, overview, results, samples, style, svg
from pipeline.report.document import Details, MarkdownOnly, PageOnly, Paragraph, Table, markdown
from pipeline.report.page import render

TRANSLATORS = {
    "transformer-1": 0.05,
    "transformer-2": 0.06,
    "seq2seq-1": 0.5,
    "seq2seq-2": 0.52,
    "memory-1": 0.7,
}
MODELS = {"lstm": 2.1, "rnn-1": 2.4, "rnn-2": 2.5}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reported project; not to be changed."""
    root = synthetic_runs.project(tmp_path_factory.mktemp("page"), TRANSLATORS, MODELS, rows=40)
    for name in TRANSLATORS:
        config = root / f"data/models/{name}/config.json"
        if name.startswith("seq2seq"):  # a size of its own
            config.write_text(json.dumps(json.loads(config.read_text()) | {"parameters": 2345678}))
        run_evaluate(root, name, "pairs")
    for name in MODELS:
        run_evaluate(root, name, "story")
    stage_runs.run(root, "report")
    return root


@pytest.fixture(scope="module")
def groups(project: Path) -> dict[str, results.Group]:
    found = results.groups(
        project / "params.yaml", project / "reports/metrics", project / "data/scores"
    )
    return {group.corpus: group for group in found}


@pytest.fixture(scope="module")
def content(project: Path) -> str:
    return (project / "reports/index.html").read_text(encoding="utf-8")


def overview_rows(groups: dict[str, results.Group]) -> dict[str, dict[str, str]]:
    _, table, _ = overview.overview(list(groups.values()), [])
    assert isinstance(table, Table)
    return {row[0]: dict(zip(table.header, row, strict=True)) for row in table.rows}


def test_overview_says_what_is_best_and_by_how_much(groups: dict[str, results.Group]) -> None:
    group = groups["pairs"]
    first, second = (np.mean(setting.values("test.bleu.score")) for setting in group.settings[:2])
    row = overview_rows(groups)["Translators on pairs"]
    assert row["best setting"] == "`transformer`"
    assert row["lead over the next"] == f"{first - second:.2f}, over `seq2seq`"
    assert row["more than chance?"].startswith("**yes**, p")
    assert float(row["limit"]) == 100


def test_overview_claims_nothing_of_a_setting_with_one_seed(
    groups: dict[str, results.Group],
) -> None:
    row = overview_rows(groups)["Language models on story"]
    assert (row["best setting"], row["more than chance?"]) == ("`lstm`", "not tested")
    assert row["best baseline"] == "–"


def test_each_section_of_the_overview_is_linked(content: str) -> None:
    table = content.split("<h2")[1]
    links = re.findall(r'<td><a href="#([^"]+)">([^<]+)</a>', table)
    assert dict(links) == {
        "language-models-on-story": "Language models on story",
        "translators-on-pairs": "Translators on pairs",
    }
    assert all(f'<h2 id="{anchor}">{title}</h2>' in content for anchor, title in links)


def test_score_is_the_third_column_of_a_ranking(content: str) -> None:
    section = content.split('id="translators-on-pairs"')[1]
    header = re.findall(r"<th [^>]*>(.*?)</th>", section.split("</thead>")[0])
    assert header[:3] == ["rank", "setting", "BLEU"]


def test_details_are_folded_away_and_have_no_heading_without_content(tmp_path: Path) -> None:
    blocks = [
        Details("On both", (Paragraph("text"),), "On both (corpus)"),
        Details("On the page", (PageOnly("<i>drawn</i>"),), "On the page (corpus)"),
        Details("In Markdown", (MarkdownOnly((Paragraph("table"),)),), "In Markdown (corpus)"),
    ]
    assert markdown(blocks, tmp_path) == (
        "### On both (corpus)\n\ntext\n\n### In Markdown (corpus)\n\ntable\n"
    )
    page = render(blocks, "T")
    assert re.findall(r"<summary><h3>(.*?)</h3>", page) == ["On both", "On the page"]
    assert "<details open" not in page


def charts(content: str, section: str) -> dict[str, str]:
    """The drawings of a section by the title in their caption."""
    part = content.split(f'id="{section}"')[1].split("<section>")[0]
    found = re.findall(r"<figure>(<svg.*?</svg>)<figcaption>(.*?)</figcaption></figure>", part)
    return {re.search(r"<strong>(.*?)</strong>", caption)[1]: svg for svg, caption in found}


def test_charts_of_scores_and_of_training_have_captions(content: str) -> None:
    assert list(charts(content, "translators-on-pairs")) == [
        "BLEU by parameters",
        "BLEU by training work",
        "Training loss, nats per token",
        "Validation perplexity",
        "BLEU by length",
    ]


def test_no_chart_of_a_measure_that_is_the_same_for_all_settings(content: str) -> None:
    assert "Perplexity by parameters" not in charts(content, "language-models-on-story")


def test_marks_of_a_chart_have_the_numbers_as_tooltips(content: str) -> None:
    drawings = charts(content, "translators-on-pairs")
    sizes = re.findall(r"<title>(\w+): (.*?)</title>", drawings["BLEU by parameters"])
    assert {name: text.rpartition(", ")[2] for name, text in sizes} == {
        "transformer": "123,456 parameters",
        "seq2seq": "2,345,678 parameters",
        "memory": "123,456 parameters",
    }
    work = re.findall(r"<title>seq2seq: .*?, ([\d,]+) param", drawings["BLEU by training work"])
    assert work == [f"{8 * 2345678:,}"]


def test_svg_follows_the_theme_and_has_its_own_ids() -> None:
    drawings = []
    for name in ("first", "second", "second"):
        with style.open_figure(3, 2) as figure:
            axes = figure.subplots()
            axes.plot([1, 2], [3, 4], color=style.HUES[0], gid=svg.tip("a & <b>: 4"))
            axes.set_title("Title")
            drawings.append(svg.to_svg(figure, name, "what it shows"))
    first, second, again = drawings
    assert second == again
    root = ET.fromstring(first)
    assert (root.get("role"), root.get("aria-label")) == ("img", "what it shows")
    assert "a & <b>: 4" in [title.text for title in root.iter("title")]
    assert "var(--hue-0)" in first
    assert "#" not in re.sub(r"url\(#[^)]*\)|href=\"#", "", first)
    ids = [re.findall(r' id="([^"]*)"', drawing) for drawing in (first, second)]
    assert ids[0]
    assert not set(ids[0]) & set(ids[1])
    for reference in re.findall(r"url\(#([^)]*)\)|href=\"#([^\"]*)\"", first):
        assert "".join(reference) in ids[0]


def test_every_hue_of_a_figure_is_in_both_themes(content: str) -> None:
    light, dark = content.split("prefers-color-scheme: dark")
    used = set(re.findall(r"var\((--[\w-]+)", content))
    for theme in (light, dark.split("* {")[0]):
        defined = set(re.findall(r"(--[\w-]+):", theme))
        assert used - defined <= {"--w", "--least"}


def test_heat_table_has_a_number_in_each_cell_but_zeros() -> None:
    shares = np.array([[0.004, 1.0], [0.6, 0.4]])
    table = heat_table.heat_table("lstm", ("true", "predicted"), ["<a>", ""], ["x", "y"], shares)
    assert re.findall(r"<td[^>]*>(?:<span>(\d+)</span>)?</td>", table) == ["", "100", "60", "40"]
    assert "&lt;a&gt;" in table
    assert "true&nbsp;↓ predicted&nbsp;→" in table


def test_confusion_tables_name_the_labels_of_both_axes() -> None:
    counts = {"bad": {"bad": 3, "good": 1}, "good": {"good": 4}}
    runs = [SimpleNamespace(metric=lambda key: counts) for _ in range(2)]
    group = SimpleNamespace(split="test", settings=[SimpleNamespace(name="cnn", results=runs)])
    [table] = confusion.tables(group)
    assert re.findall(r'scope="(?:col|row)">(?:<span>)?(\w+)', table) == ["bad", "good"] * 2
    assert re.findall(r"<span>(\d+)</span>", table) == ["75", "25", "100"]


def test_attention_of_the_page_has_every_weight(content: str) -> None:
    section = content.split("<summary><h3>Attention</h3></summary>")[1]
    table = section.split("<table")[1].split("</table>")[0]
    assert "<caption>transformer</caption>" in table
    assert re.findall(r'scope="col"><span>(.*?)</span>', table) == ["go", ".", "&lt;eos&gt;"]
    for row in re.findall(r"<tr><th.*?</tr>", table, re.DOTALL):
        percents = [int(cell) for cell in re.findall(r"<span>(\d+)</span></td>", row)]
        assert sum(percents) == pytest.approx(100, abs=2)
    assert "2 heads of transformer" in section


@pytest.mark.parametrize(
    ("text", "reference", "marked"),
    [
        ("il est calme .", "il est calme .", []),
        ("Il est calme!", "il est calme .", ["!"]),
        ("il est très calme .", "il est calme .", ["très"]),
        ("il <b> calme .", "il est calme .", ["&lt;b&gt;"]),
        ("il .", "il est calme .", []),
    ],
)
def test_words_that_the_reference_lacks_are_marked(
    text: str, reference: str, marked: list[str]
) -> None:
    html = samples._marked(text, reference, True)
    assert re.findall(r"<mark>(.*?)</mark>", html) == marked
    assert re.sub(r"</?mark>", "", html) == text.replace("<b>", "&lt;b&gt;")


def test_outputs_of_a_sample_are_side_by_side_in_order_of_rank(content: str) -> None:
    section = content.split('id="translators-on-pairs"')[1]
    answers = section.split("<h4>he&#x27;s calm .</h4>")[1].split("</dl>")[0]
    assert "reference: il est calme ." in answers
    names = re.findall(r"<dt>(\w+) <small>[01]\.\d{3}</small></dt>", answers)
    assert names == ["transformer", "seq2seq", "memory"]


def counts_of(folder: Path, **splits: dict[str, object]) -> None:
    folder.mkdir(exist_ok=True)
    for name in ("pairs", "story"):
        (folder / f"{name}.json").write_text(json.dumps({"blank_lines": 0, "splits": splits}))


def test_corpora_have_a_row_for_each_split_and_warnings(
    groups: dict[str, results.Group], tmp_path: Path
) -> None:
    labels = {"good": 6, "b|d": 4}
    counts_of(
        tmp_path / "corpora",
        test={"rows": 10, "source_tokens": 1234, "target_tokens": 56, "rows_also_in_train": 4},
        train={"rows": 90, "labels": labels, "rejected": {"too long": 9, "empty": 1}},
    )
    blocks = corpora.section([groups["pairs"]], tmp_path / "corpora")
    [table] = [block for block in blocks if isinstance(block, Table)]
    [train, test] = [dict(zip(table.header, row, strict=True)) for row in table.rows]
    assert (train["split"], train["rows"], train["rejected"]) == ("train", "90", "10")
    assert train["rows by label"] == "good 6, b|d 4"
    assert (test["tokens"], test["also in train"]) == ("1,234 → 56", "4")
    warnings = [block.text for block in blocks if isinstance(block, Paragraph) and block.warning]
    assert warnings == [
        "`pairs`: 10.0% of the train rows were rejected (too long 9, empty 1).",
        "`pairs`: 4 of 10 test rows (40%) are in train as well. Their scores say less about new "
        "text.",
    ]


def test_counts_that_are_missing_are_refused(
    groups: dict[str, results.Group], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"pairs\.json: got no such file; expected the counts"):
        corpora.section([groups["pairs"]], tmp_path)
