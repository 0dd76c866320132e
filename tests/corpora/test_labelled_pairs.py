"""Pairs of texts with a label, from tab-separated and JSON lines such as SNLI's."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.core import tables
from pipeline.core.errors import UserError
from pipeline.corpora import labelled_pairs
from pipeline.corpora.labelled_pairs import Config

LABELS = ("entailment", "neutral", "contradiction")


def config(**changes: Any) -> Config:
    values = {
        "files": {"train": ("a",)},
        "form": "tsv",
        "premise": "sentence1",
        "hypothesis": "sentence2",
        "label": "gold_label",
        "labels": LABELS,
    }
    return Config(**(values | changes))


def rows(folder: Path, content: str, **changes: Any) -> list[dict[str, str | None]]:
    (folder / "a").write_text(content, encoding="utf-8")
    read = []
    for split, batch in labelled_pairs.read(folder, config(**changes)):
        assert split == "train"
        assert batch.schema == tables.RAW_LABELLED_PAIR
        read += batch.to_pylist()
    return read


def test_columns_are_named_in_the_first_line(tmp_path: Path) -> None:
    content = (
        "gold_label\tid\tsentence1\tsentence2\n"
        "neutral\t7\tA dog.\tA big dog.\n"
        "-\t8\tA dog.\tA cat.\n"
        "neutral\t9\n"
        "  \n"
        'contradiction\t10\tA "dog".\tA cat.\tmore\n'
    )
    pairs = [(row["premise"], row["hypothesis"], row["label"], row["reject"]) for row in
             rows(tmp_path, content)]  # fmt: skip
    assert pairs == [
        ("A dog.", "A big dog.", "neutral", None),
        ("A dog.", "A cat.", "-", "label -"),
        ("neutral\t9", "", "", "too few columns: 2 of 4"),
        ("", "", "", "blank line"),
        ('A "dog".', "A cat.", "contradiction", None),
    ]


def test_keys_of_json_objects_are_read(tmp_path: Path) -> None:
    good = {"gold_label": "neutral", "sentence1": "Ein Hund.\tJa.", "sentence2": "Größe"}
    lines = [
        json.dumps(good),
        "",
        "{",
        "[1]",
        json.dumps(good | {"sentence2": 3}),
        json.dumps(good | {"sentence2": "\ud800"}),
        json.dumps(good | {"gold_label": "-"}),
    ]
    read = rows(tmp_path, "\n".join(lines) + "\n", form="jsonl")
    assert [row["reject"] for row in read] == [
        None,
        "blank line",
        "no JSON",
        "no text under the key sentence1",
        "no text under the key sentence2",
        "no text under the key sentence2",
        "label -",
    ]
    assert (read[0]["premise"], read[0]["hypothesis"]) == ("Ein Hund.\tJa.", "Größe")


def test_a_missing_column_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError) as refused:
        rows(tmp_path, "gold_label\tsentence1\tpremise\n")
    assert str(refused.value) == (
        f"{tmp_path / 'a'}: got 0 columns sentence2; expected one in its first line: gold_label, "
        "sentence1, premise. Correct the names under `read`."
    )


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"hypothesis": "sentence1"}, "premise: got sentence1, sentence1, gold_label; expected"),
        ({"labels": ("neutral",)}, "labels: got neutral; expected two labels at least, each once"),
        ({"labels": ("a", "a")}, "labels: got a, a; expected two labels at least, each once"),
        ({"labels": ("a", "A")}, "labels: got the labels a and A; expected labels that differ"),
        ({"files": {}}, "files: got no split"),
        ({"files": {"train": ("../x",)}}, "files.train: got ../x"),
    ],
)
def test_bad_settings_are_refused_in_one_line(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError) as refused:
        config(**changes)
    assert str(refused.value).startswith(line)
