"""Blocks of dependent rows: copies of rows are no further evidence, for intervals and tests."""

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import synthetic_runs
from hypothesis import given
from hypothesis import strategies as st
from stage_runs import run_evaluate

from pipeline.core import tables
from pipeline.promotion.one_sided_significance import p_value
from pipeline.scoring.blocks import WINDOWS, by_text, by_window
from pipeline.scoring.significance import Bootstrap, pairs
from pipeline.scoring.tasks import Scoring, classification, translation
from pipeline.text.splits import digests
from pipeline.text.tokens import normalise

BOOTSTRAP = Bootstrap(200, 0.95, 1)
TEXTS = st.lists(st.sampled_from(["Go.", "go.", " go. ", "Hi!", "hi", "Run"]), min_size=1)


@given(TEXTS)
def test_rows_are_one_block_if_the_corpus_splits_them_as_one_text(texts: list[str]) -> None:
    block_N = by_text(pa.chunked_array([texts]))
    key_N = digests(normalise(pa.array(texts), True, False))
    assert ((block_N[:, None] == block_N) == (key_N[:, None] == key_N)).all()
    assert list(dict.fromkeys(block_N)) == list(range(block_N.max() + 1))


def test_distinct_texts_are_blocks_in_the_order_of_rows() -> None:
    assert by_text(pa.chunked_array([["b", "a"], ["c"]])).tolist() == [0, 1, 2]
    assert by_text(pa.chunked_array([pa.array([], pa.string())])).tolist() == []


@given(st.lists(st.integers(1, 40), min_size=30, max_size=400))
def test_windows_are_whole_paragraphs_of_about_equal_size(sizes: list[int]) -> None:
    paragraph_N = np.repeat(np.arange(len(sizes)) + 7, sizes)
    block_N = by_window(paragraph_N)
    rows = Counter(block_N.tolist())
    assert (np.diff(block_N) >= 0).all()
    assert len(set(zip(paragraph_N.tolist(), block_N.tolist(), strict=True))) == len(sizes)
    assert len(rows) <= WINDOWS
    assert max(rows.values()) <= len(paragraph_N) / WINDOWS + max(sizes) + 1


@given(st.integers(1, 1000))
def test_a_text_without_paragraphs_is_divided_into_windows_of_rows(rows: int) -> None:
    sizes = np.bincount(by_window(np.zeros(rows, np.int64)))
    assert len(sizes) == min(rows, WINDOWS)
    assert sizes.max() - sizes.min() <= 1


def labelled(rng: np.random.Generator, right: float) -> pa.Table:
    label_N = rng.choice(["a", "b", "c"], 60)
    predicted_N = np.where(rng.random(60) < right, label_N, rng.choice(["a", "b", "c"], 60))
    columns = [range(60), range(60), [5] * 60, label_N, predicted_N, *[np.ones(60)] * 2]
    return pa.table(columns, schema=tables.SCORES_LABELLED)


def translated(rng: np.random.Generator, right: float) -> pa.Table:
    metrics = translation._text_metrics("13a")
    wanted = [[*rng.choice(synthetic_runs.WORDS, 4 + i % 9), "."] for i in range(60)]
    outputs = [
        [word if rng.random() < right else str(rng.choice(synthetic_runs.WORDS)) for word in row]
        for row in wanted
    ]
    columns = {
        field.name: range(60) if field.name in ("row", "block") else np.ones(60)
        for field in tables.SCORES_PAIR
    }
    columns["length"] = [len(row) for row in wanted]
    columns |= {
        name: [
            metric.sums(" ".join(output), " ".join(row))
            for output, row in zip(outputs, wanted, strict=True)
        ]
        for name, metric in metrics.items()
    }
    arrays = [pa.array(columns[field.name]).cast(field.type) for field in tables.SCORES_PAIR]
    return pa.table(arrays, schema=tables.SCORES_PAIR)


SCORINGS = pytest.mark.parametrize(
    ("scoring", "draw"),
    [(classification.scoring(False), labelled), (translation.scoring(False), translated)],
    ids=["classification", "translation"],
)


def copies(table: pa.Table) -> pa.Table:
    """Every row three times, in the same block."""
    return pa.concat_tables([table] * 3)


@SCORINGS
def test_copies_of_rows_narrow_no_interval(scoring: Scoring, draw) -> None:
    table = draw(np.random.default_rng(3), 0.7)
    once = scoring.summary(table, BOOTSTRAP, {})
    thrice = scoring.summary(copies(table), BOOTSTRAP, {})
    assert thrice["rows"] == 3 * once["rows"]
    assert thrice["blocks"] == once["blocks"] == 60
    estimates = [key for key, value in once.items() if isinstance(value, dict) and "low" in value]
    assert estimates
    for key in estimates:
        for bound in ("score", "low", "high"):
            assert thrice[key][bound] == pytest.approx(once[key][bound])


def test_copies_of_rows_narrow_no_interval_by_length() -> None:
    table = labelled(np.random.default_rng(3), 0.7)
    scoring = classification.scoring(False)
    [once] = scoring.by_length(table, BOOTSTRAP)
    [thrice] = scoring.by_length(copies(table), BOOTSTRAP)
    assert thrice.pop("rows") == 3 * once.pop("rows")
    assert thrice == pytest.approx(once)


@SCORINGS
@pytest.mark.parametrize("method", ["approximate_randomisation", "paired_bootstrap"])
def test_copies_of_rows_are_no_evidence_for_the_gate_or_the_report(
    scoring: Scoring, draw, method
) -> None:
    rng = np.random.default_rng(4)
    first, second = draw(rng, 0.67), draw(rng, 0.7)
    once = [scoring.units(table) for table in (first, second)]
    thrice = [scoring.units(copies(table)) for table in (first, second)]

    gate = [p_value(method, *units, scoring.score, True, 499, 1) for units in (once, thrice)]
    assert gate[1] == pytest.approx(gate[0])
    report = [
        pairs(dict(zip("ab", units, strict=True)), scoring.score, BOOTSTRAP)[0].p
        for units in (once, thrice)
    ]
    assert report[1] == pytest.approx(report[0])

    # Row by row, the same copies would count, in either direction.
    rows = [scoring.sums(copies(table)) for table in (first, second)]
    by_row = p_value(method, *rows, scoring.score, True, 499, 1)
    assert abs(by_row - 0.5) > abs(gate[0] - 0.5)


def test_translations_of_one_source_are_a_block_whatever_its_case(tmp_path: Path) -> None:
    project = synthetic_runs.project(tmp_path, {"transformer": 0.1}, {}, rows=60)
    path = project / "data/tokens/pairs/test.parquet"
    table = tables.read(path, tables.TOKENS_PAIR)
    sources = [f"{'Go' if i % 2 else 'go'} {i // 4} ." for i in range(len(table))]
    column = table.schema.get_field_index("source")
    tables.write(path, table.set_column(column, "source", pa.array(sources)))

    metrics = run_evaluate(project, "transformer", "pairs")["test"]
    assert (metrics["rows"], metrics["blocks"]) == (60, 15)
    scores = tables.read(project / "data/scores/transformer/test.parquet", tables.SCORES_PAIR)
    assert scores["block"].to_pylist() == [i // 4 for i in range(60)]

    # sacreBLEU resamples single rows, so it cannot reproduce these intervals.
    assert "bs:" not in metrics["bleu"]["signature"]


def test_unique_sources_keep_the_draws_and_the_signature_of_sacrebleu(tmp_path: Path) -> None:
    project = synthetic_runs.project(tmp_path, {"transformer": 0.1}, {}, rows=60)
    path = project / "data/tokens/pairs/test.parquet"
    table = tables.read(path, tables.TOKENS_PAIR)
    column = table.schema.get_field_index("source")
    unique = pa.array([f"source {i}" for i in range(len(table))])
    tables.write(path, table.set_column(column, "source", unique))
    metrics = run_evaluate(project, "transformer", "pairs")["test"]
    scores = tables.read(project / "data/scores/transformer/test.parquet", tables.SCORES_PAIR)
    assert scores["block"].equals(scores["row"])
    assert "bs:200|seed:" in metrics["bleu"]["signature"]


def test_examples_of_changes_are_rows_and_not_blocks() -> None:
    table = copies(translated(np.random.default_rng(1), 0.7))
    scoring = translation.scoring(False)
    assert len(scoring.sums(table)) == 180
    assert len(scoring.units(table)) == 60
    by_chrf, _ = scoring.substitute(short(table)) or pytest.fail("chrF must replace BLEU")
    assert len(by_chrf.sums(table)) == 180


def short(table: pa.Table) -> pa.Table:
    """The same rows, without a reference of four tokens."""
    column = table.schema.get_field_index("bleu")
    sums = [[3, 3, *row[2:]] for row in table["bleu"].to_pylist()]
    return table.set_column(
        column, table.schema.field(column), pa.array(sums, pa.list_(pa.int32()))
    )
