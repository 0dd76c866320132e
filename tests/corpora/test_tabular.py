"""Formats with named columns: rows are those that the writer wrote, whatever the cells hold, and a
row that cannot be used is a reject with its reason."""

import csv as standard
import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import corpora
from pipeline.core import config, tables
from pipeline.core.errors import UserError
from pipeline.corpora import BLANK, csv, jsonl, kind_of, parquet, tabular, tsv

PAIR = {"source": "en", "target": "fr"}
LABELLED = {"text": "review", "label": "stars"}
PLAIN = st.text("ab é中🙂\u0085\u2028'", max_size=12)
QUOTED = st.text('ab é中🙂\u0085\u2028,;"\t\n', max_size=12)
UNREADABLE = "a misplaced quotation mark, or a cell that does not end"


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a few bytes and batches of a few rows, so that every test crosses their borders."""
    monkeypatch.setattr(corpora, "_BLOCK", 16)
    monkeypatch.setattr(tabular, "_ROWS", 3)
    monkeypatch.setattr(parquet, "_ROWS", 2)


def read(module: Any, folder: Path, columns: dict[str, Any], **rest: Any) -> list[dict[str, Any]]:
    """The rows of the files of the folder."""
    files = {"all": sorted(path.name for path in folder.iterdir())}
    if module is csv:
        rest = {"separator": ","} | rest
    reading = config.load(module.Config, {"files": files, "columns": columns} | rest, "read")
    batches = list(module.read(folder, reading))
    assert {split for split, _ in batches} <= {"all"}
    schema = {
        "text": tables.RAW_TEXT,
        "pair": tables.RAW_PAIR,
        "labelled": tables.RAW_LABELLED,
        "labelled_pair": tables.RAW_LABELLED_PAIR,
    }[kind_of(module, reading)]
    assert all(batch.schema == schema for _, batch in batches)
    return [row for _, batch in batches for row in batch.to_pylist()]


def kept(rows: list[dict[str, Any]], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in names) for row in rows if row["reject"] is None]


def rejected(rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Text and reason of each reject but blank lines."""
    return [
        (row.get("text", row.get("source")), row["reject"])
        for row in rows
        if row["reject"] not in (None, BLANK)
    ]


def written(pairs: list[tuple[str, str]], separator: str, ending: str) -> str:
    """The pairs as the standard library's writer has them, with a column before and between."""
    out = io.StringIO()
    writer = standard.writer(out, delimiter=separator, lineterminator=ending)
    writer.writerow(["id", "en", "note", "fr"])
    writer.writerows([number, en, "x", fr] for number, (en, fr) in enumerate(pairs))
    return out.getvalue()


@settings(max_examples=60)
@given(
    st.lists(st.tuples(QUOTED, QUOTED), min_size=1, max_size=8),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_csv_is_read_as_it_was_written(tmp_path_factory, pairs, separator, ending):
    pairs = [("first", "premier"), *pairs]
    folder = tmp_path_factory.mktemp("csv")
    data = "\ufeff" + written(pairs, separator, ending)
    (folder / "a.csv").write_text(data, encoding="utf-8", newline="")
    rows = read(csv, folder, PAIR, separator=separator)
    assert rejected(rows) == []
    assert [(row["source"], row["target"]) for row in rows] == pairs
    assert [row["reject"] == BLANK for row in rows] == [
        not (en.strip() or fr.strip()) for en, fr in pairs
    ]


@settings(max_examples=40)
@given(st.lists(st.tuples(PLAIN, PLAIN), min_size=1, max_size=8))
def test_csv_is_read_as_pandas_reads_it(tmp_path_factory, pairs):
    pairs = [("first", "premier"), *pairs]
    folder = tmp_path_factory.mktemp("pandas")
    (folder / "a.csv").write_text(written(pairs, ",", "\n"), encoding="utf-8")
    table = pd.read_csv(folder / "a.csv", dtype=str, keep_default_na=False)
    rows = read(csv, folder, PAIR)
    assert [(row["source"], row["target"]) for row in rows] == list(
        zip(table["en"], table["fr"], strict=True)
    )


@settings(max_examples=40)
@given(st.lists(st.tuples(st.text("ab \"'", max_size=6), PLAIN), min_size=1, max_size=8))
def test_a_tab_always_separates_and_a_quotation_mark_is_a_character(tmp_path_factory, pairs):
    folder = tmp_path_factory.mktemp("tsv")
    pairs = [("first", "premier"), *pairs]
    lines = ["fr\ten", *(f"{fr}\t{en}" for en, fr in pairs)]
    (folder / "a.tsv").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    rows = read(tsv, folder, PAIR)
    assert kept(rows, "source", "target") == [
        pair for pair in pairs if pair[0].strip() or pair[1].strip()
    ]


@settings(max_examples=40)
@given(st.lists(st.tuples(QUOTED, st.sampled_from(["good", " bad ", "5"])), max_size=8))
def test_json_lines_and_parquet_give_the_same_rows(tmp_path_factory, pairs):
    pairs = [("first", "good"), *pairs]
    records = [{"review": text, "stars": label, "more": [1]} for text, label in pairs]
    lines = tmp_path_factory.mktemp("jsonl")
    (lines / "a.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records))
    columns = tmp_path_factory.mktemp("parquet")
    pq.write_table(pa.Table.from_pylist(records), columns / "a.parquet")
    rows = read(jsonl, lines, LABELLED)
    assert rows == read(parquet, columns, LABELLED)
    assert kept(rows, "text", "label") == [(text, label.strip()) for text, label in pairs]


def test_the_columns_decide_the_kind_of_the_corpus(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\nfine,pos\n")
    assert read(csv, tmp_path, {"text": "text"})[0]["paragraph"] == 0
    assert kept(read(csv, tmp_path, {"label": "label", "text": "text"}), "text", "label") == [
        ("fine", "pos")
    ]
    assert kept(read(csv, tmp_path, {"target": "label", "source": "text"}), "source", "target") == [
        ("fine", "pos")
    ]


def test_labelled_pairs_have_two_texts_and_a_label(tmp_path):
    (tmp_path / "a.tsv").write_text("l\tp\th\n yes \ta b\tc d\n\te\tf\n\t\t\nno\tg\n")
    rows = read(tsv, tmp_path, {"premise": "p", "hypothesis": "h", "label": "l"})
    assert kept(rows, "premise", "hypothesis", "label") == [("a b", "c d", "yes")]
    assert [(row["premise"], row["reject"]) for row in rows[1:]] == [
        ("e\tf", "label is empty"),
        ("", BLANK),
        ("no\tg", "columns: 2, expected 3"),
    ]


def test_each_row_is_a_paragraph_of_its_own_through_all_files(tmp_path):
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("text\n" + "a\n" * 4)
    rows = read(csv, tmp_path, {"text": "text"})
    assert [row["paragraph"] for row in rows] == list(range(8))


def test_files_without_a_heading_have_numbered_columns(tmp_path):
    (tmp_path / "a.csv").write_text('"3","A title","It is fine"\n1,B,It is not\n')
    rows = read(csv, tmp_path, {"label": 0, "text": 2})
    assert kept(rows, "text", "label") == [("It is fine", "3"), ("It is not", "1")]
    (tmp_path / "a.csv").rename(tmp_path / "a.tsv")
    (tmp_path / "a.tsv").write_text("Go.\tVa !\n")
    assert kept(read(tsv, tmp_path, {"source": 0, "target": 1}), "source", "target") == [
        ("Go.", "Va !")
    ]


def test_a_row_with_another_number_of_columns_is_a_reject(tmp_path):
    (tmp_path / "a.csv").write_text("en,fr\nGo.,Va !\none\n\na,b,c\n , \nx,y\n")
    rows = read(csv, tmp_path, PAIR)
    assert kept(rows, "source", "target") == [("Go.", "Va !"), ("x", "y")]
    assert rejected(rows) == [
        ("one", "columns: 1, expected 2"),
        ("a,b,c", "columns: 3, expected 2"),
    ]
    assert [row["reject"] for row in rows].count(BLANK) == 2


@pytest.mark.parametrize(
    "bad", ['"never closed,x', 'a,"closed" too early', '"a\n"b\n', "a,b\rc", 'q,"' + "x" * 140_000]
)
def test_a_bad_quotation_mark_costs_one_line_and_no_other_row(tmp_path, bad):
    (tmp_path / "a.csv").write_text(f'en,fr\na,"two\nlines"\n{bad}\nc,d\ne,"f"\n', newline="")
    rows = read(csv, tmp_path, PAIR)
    assert kept(rows, "source", "target") == [("a", "two\nlines"), ("c", "d"), ("e", "f")]
    assert [text for text, _ in rejected(rows)] == bad.rstrip("\n").split("\n")
    assert {reason for _, reason in rejected(rows)} <= {UNREADABLE, "columns: 1, expected 2"}


def test_rows_of_json_that_cannot_be_used_are_rejects(tmp_path):
    lines = [
        '{"review": "fine", "stars": 5}',
        '{"review": "so so", "stars": 2.5}',
        '{"review": "no", "stars": true}',
        "",
        "[1]",
        '{"review": ',
        "[" * 100_000,
        '{"stars": 1}',
        '{"review": "x", "stars": null}',
        '{"review": ["x"], "stars": 1}',
        '{"review": "\\ud800", "stars": 1}',
        '{"review": "x", "stars": " "}',
        '{"review": "x", "stars": "a\\u0007"}',
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    rows = read(jsonl, tmp_path, LABELLED)
    assert kept(rows, "text", "label") == [("fine", "5"), ("so so", "2.5"), ("no", "true")]
    assert [reason for _, reason in rejected(rows)] == [
        "no JSON object",
        "no JSON object",
        "no JSON object",
        "text is missing",
        "label is missing",
        "text is no text",
        "text is no text",
        "label is empty",
        "label is not printable",
    ]


def test_columns_of_columns_are_reached_by_dots(tmp_path):
    records = [{"translation": {"en": "Go.", "fr": "Va !"}}, {"translation": None}]
    (tmp_path / "j").mkdir()
    (tmp_path / "p").mkdir()
    (tmp_path / "j/a.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records))
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "p/a.parquet")
    for module, folder in ((jsonl, "j"), (parquet, "p")):
        rows = read(
            module, tmp_path / folder, {"source": "translation.en", "target": "translation.fr"}
        )
        assert kept(rows, "source", "target") == [("Go.", "Va !")]
        assert [reason for _, reason in rejected(rows)] == ["source is missing"]


def test_parquet_columns_of_other_types_are_written_out(tmp_path):
    table = pa.table(
        {
            "review": pa.array(["a", None, "c"], pa.large_string()),
            "stars": pa.array([1, 2, None], pa.int8()),
            "kind": pa.array(["x", "y", "x"]).dictionary_encode(),
            "picture": pa.array([b"1", b"2", b"3"]),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    rows = read(parquet, tmp_path, LABELLED)
    assert kept(rows, "text", "label") == [("a", "1")]
    assert rejected(rows) == [("\t2", "text is missing"), ("c\t", "label is missing")]
    rows = read(parquet, tmp_path, {"text": "review", "label": "kind"})
    assert kept(rows, "text", "label") == [("a", "x"), ("c", "x")]
    with pytest.raises(UserError, match=r"a.parquet: got picture, a column of binary; expected"):
        read(parquet, tmp_path, {"text": "picture"})


@pytest.mark.parametrize(
    ("module", "content", "message"),
    [
        (csv, "en,de\na,b\n", r"got the columns en, de; expected one called fr\. Correct `read"),
        (csv, "en,fr,en\na,b,c\n", "got 2 columns en; expected one"),
        (csv, "", "got an empty file; expected at least one line"),
        (csv, 'en,"fr\n', "got a first line with a misplaced quotation mark"),
        (csv, b"en,fr\na,caf\xe9\n", r"got byte 0xe9 at offset 11, line 2; expected UTF-8"),
        (csv, b"PK\3\4\n", r"got a zip archive; expected a text file\. Name the zip itself in"),
        (tsv, b"\x1f\x8b\x08", "got a gzip file; expected a text file"),
        (jsonl, b"PAR1....", r"got a Parquet file; expected a text file\. Set `format: parquet`"),
        (tsv, "en\tde\n", "got the columns en, de; expected one called fr"),
        (jsonl, '{"en": "a", "de": "b"}\n', "got the columns en, de; expected one called fr"),
        (parquet, b"PAR1 and no more", "expected a Parquet file"),
        (parquet, b"", "expected a Parquet file"),
    ],
)
def test_files_that_cannot_be_read_are_refused(tmp_path, module, content, message):
    data = content.encode() if isinstance(content, str) else content
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(UserError, match=message) as caught:
        read(module, tmp_path, PAIR)
    assert str(caught.value).startswith(f"{tmp_path / 'file'}: got ")


def test_a_parquet_file_without_the_column_or_without_rows_is_refused(tmp_path):
    pq.write_table(pa.table({"en": ["a"], "de": ["b"]}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"got the columns en, de; expected one called fr"):
        read(parquet, tmp_path, PAIR)
    with pytest.raises(UserError, match=r"expected one called en\.x"):
        read(parquet, tmp_path, {"text": "en.x"})
    schema = pa.schema({"en": pa.string(), "fr": pa.string()})
    pq.write_table(schema.empty_table(), tmp_path / "a.parquet")
    with pytest.raises(UserError, match="got no row; expected one row at least"):
        read(parquet, tmp_path, PAIR)


def test_a_numbered_column_that_is_not_there_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n")
    with pytest.raises(UserError, match="got 2 columns; expected one of number 2"):
        read(csv, tmp_path, {"source": 0, "target": 2})


def test_labels_that_look_alike_and_columns_without_labels_are_refused(tmp_path, monkeypatch):
    (tmp_path / "a.csv").write_text("review,stars\n" + "a,good\n" * 5 + "b,Good\n")
    with pytest.raises(UserError, match=r"columns.label: got the labels good and Good; expected"):
        read(csv, tmp_path, LABELLED)
    monkeypatch.setattr(tabular, "_MOST_LABELS", 4)
    (tmp_path / "a.csv").write_text("review,stars\n" + "".join(f"a,{n}\n" for n in range(9)))
    with pytest.raises(UserError, match=r"read.columns.label: got a column with over 4 labels"):
        read(csv, tmp_path, LABELLED)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({}, "columns: got none; expected source and target"),
        ({"text": "a", "target": "b"}, "columns: got text, target; expected source and target"),
        ({"source": "a", "target": "a"}, "columns: got one column twice; expected a column for"),
        ({"source": "a", "target": 1}, "columns: got a, 1; expected names of the heading, or num"),
        ({"source": 0, "target": -1}, "columns: got 0, -1; expected names of the heading, or num"),
        ({"text": 1.5}, "columns.text: got 1.5; expected a text or a whole number"),
    ],
)
def test_columns_that_make_no_row_are_refused(columns, message):
    with pytest.raises(UserError) as caught:
        config.load(tsv.Config, {"files": {"all": ["a"]}, "columns": columns}, "corpora.c.read")
    assert str(caught.value).startswith(f"corpora.c.read.{message}")


@pytest.mark.parametrize("separator", ["", ",,", '"', "\n"])
def test_a_separator_is_one_character(separator):
    block = {"files": {"all": ["a"]}, "columns": {"text": "a"}, "separator": separator}
    with pytest.raises(UserError, match=r"^read.separator: got .*; expected one character"):
        config.load(csv.Config, block, "read")


def test_only_lines_have_numbered_columns():
    block = {"files": {"all": ["a"]}, "columns": {"text": 0}}
    for module in (jsonl, parquet):
        with pytest.raises(UserError, match=r"^read.columns.text: got 0; expected a text"):
            config.load(module.Config, block, "read")
