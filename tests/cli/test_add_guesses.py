"""`seqline add corpus`: the format, columns, splits and level guessed for a user's file."""

import gzip
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

HASH = {"method": "hash", "valid": 0.1, "test": 0.1}
CONTIGUOUS = {"method": "contiguous", "valid": 0.1, "test": 0.1}
PAIRS = [(f"the cat sees the dog {n} .", f"le chat voit le chien {n} .") for n in range(20)]


class Guess(NamedTuple):
    """Values of the block that is written."""

    format: str
    read: dict[str, Any]
    split: Any = HASH
    level: str = "word"


def corpus(root: Path, name: str) -> dict[str, Any]:
    content = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
    block: dict[str, Any] = content["corpora"][name]
    return block


def jsonl(folder: Path) -> str:
    records = [{"translation": {"de": fr, "en": en}} for en, fr in PAIRS]
    (folder / "x.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return "x.jsonl"


def parquet(folder: Path) -> str:
    rows = [
        {"idx": 1, "sentence": "The cat is good .", "label": 5},
        {"idx": 2, "sentence": "The dog is bad .", "label": 1},
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "x.parquet")
    return "x.parquet"


def zip_with_splits(folder: Path) -> str:
    with zipfile.ZipFile(folder / "x.zip", "w") as archive:
        for name in ("x/train.csv", "x/dev.csv", "x/test.csv", "x/README.md"):
            archive.writestr(name, 'text,label\n"a, b",pos\nc d,neg\n')
    return "x.zip"


def zip_of_single_file(folder: Path) -> str:
    with zipfile.ZipFile(folder / "x.zip", "w") as archive:
        archive.writestr("deep/only.tsv", "source\ttarget\na b c\td e f\n")
    return "x.zip"


def gzip_of_single_file(folder: Path) -> str:
    (folder / "x.csv.gz").write_bytes(gzip.compress(b"src,trg\na b c,d e f\n"))
    return "x.csv.gz"


def parallel(folder: Path) -> str:
    (folder / "x").mkdir()
    for name in ("train.en", "train.fr", "test.en", "test.fr"):
        (folder / "x" / name).write_text("a b c\n" * 9)
    return "x"


def text(folder: Path) -> str:
    (folder / "x.txt").write_text("It was a dark night .\n\nThe rain fell .\n")
    return "x.txt"


def text_with_remarks(folder: Path) -> str:
    with zipfile.ZipFile(folder / "x.zip", "w") as archive:
        archive.writestr("_about.txt", "Where it comes from.\n")
        archive.writestr("fra.txt", "It was a dark night .\n\nThe rain fell .\n")
    return "x.zip"


def opinions(folder: Path) -> str:
    (folder / "x").mkdir()
    for name in ("rt.pos", "rt.neg"):
        (folder / "x" / name).write_text("a fine film indeed\n" * 9)
    return "x"


def inference(folder: Path) -> str:
    rows = [
        {"sentence1": "A dog runs .", "sentence2": f"It is {word} .", "gold_label": label}
        for word, label in [("fast", "yes"), ("asleep", "no")]
    ]
    (folder / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows * 9))
    return "x.jsonl"


def chinese(folder: Path) -> str:
    (folder / "x.csv").write_text("zh,en\n" + "我们都喜欢读书。,we all like reading .\n" * 20)
    return "x.csv"


def quoted_tabs(folder: Path) -> str:
    (folder / "x.tsv").write_text('text\tlabel\n"a\tb"\tpos\n"c"\tneg\n')
    return "x.tsv"


def table(file: str, **columns: str) -> dict[str, Any]:
    """The block `read` of a file with columns, which is to be split."""
    return {"files": {"all": [file]}, "columns": columns}


def with_commas(read: dict[str, Any]) -> dict[str, Any]:
    return read | {"separator": ","}


Make = Callable[[Path], str]
GUESSES: dict[Make, Guess] = {
    jsonl: Guess("jsonl", table("x.jsonl", source="translation.de", target="translation.en")),
    parquet: Guess("parquet", table("x.parquet", text="sentence", label="label"), CONTIGUOUS),
    zip_with_splits: Guess(
        "csv",
        {
            "files": {"train": ["x/train.csv"], "valid": ["x/dev.csv"], "test": ["x/test.csv"]},
            "columns": {"text": "text", "label": "label"},
            "separator": ",",
        },
        "official",
    ),
    zip_of_single_file: Guess("tsv", table("deep/only.tsv", source="source", target="target")),
    gzip_of_single_file: Guess("csv", with_commas(table("x.csv", source="src", target="trg"))),
    parallel: Guess(
        "parallel_text",
        {
            "files": {
                "train": {"source": ["train.en"], "target": ["train.fr"]},
                "test": {"source": ["test.en"], "target": ["test.fr"]},
            }
        },
        {"method": "out_of_train", "valid": 0.1},
    ),
    text: Guess("text_lines", {"files": {"all": ["x.txt"]}, "benchmarks": None}, CONTIGUOUS),
    text_with_remarks: Guess(
        "text_lines", {"files": {"all": ["fra.txt"]}, "benchmarks": None}, CONTIGUOUS
    ),
    opinions: Guess(
        "labelled_lines",
        {"files": {"all": {"positive": ["rt.pos"], "negative": ["rt.neg"]}}},
        CONTIGUOUS,
    ),
    inference: Guess(
        "jsonl",
        table("x.jsonl", premise="sentence1", hypothesis="sentence2", label="gold_label"),
        CONTIGUOUS,
    ),
    chinese: Guess("csv", with_commas(table("x.csv", source="zh", target="en")), level="char"),
    quoted_tabs: Guess(
        "csv", table("x.tsv", text="text", label="label") | {"separator": "\t"}, CONTIGUOUS
    ),
}


@pytest.mark.parametrize("make", GUESSES, ids=lambda make: make.__name__)
def test_formats_columns_and_splits_are_guessed(make: Make, project, seqline) -> None:
    name = make(project)
    result = seqline(project, "add", "corpus", name, "--name", "mine")
    assert (result.status, result.err) == (0, "")
    block = corpus(project, "mine")
    guess = Guess(block["format"], block["read"], block["split"], block["text"]["level"])
    assert guess == GUESSES[make]
    assert seqline(project, "check").status == 0


def test_columns_that_names_do_not_tell_are_given(project, seqline) -> None:
    (project / "x.csv").write_text("3,A title,It is fine today\n1,B,It is not fine\n" * 9)
    result = seqline(project, "add", "corpus", "x.csv")
    assert result.status == 2
    assert result.err.startswith(
        "seqline: x.csv: got the columns 3, A title, It is fine today; expected names that tell "
        "what is in them. Name them: --source A --target B, or --text A --label B, "
    )
    result = seqline(project, "add", "corpus", "x.csv", "--text", "2", "--label", "0")
    assert result.status == 0
    assert corpus(project, "x")["read"]["columns"] == {"text": 2, "label": 0}
    assert "2 labels: 3 9, 1 9" in result.out


def test_a_text_without_labels_says_how_to_name_them(project, seqline) -> None:
    (project / "x.csv").write_text("review,kind\nIt is fine today,x\n")
    result = seqline(project, "add", "corpus", "x.csv")
    assert "no column of labels was recognized; for classification remove the block" in result.out
    assert corpus(project, "x")["read"]["columns"] == {"text": "review"}
    result = seqline(project, "add", "corpus", "x.csv", "--name", "again", "--label", "kind")
    assert result.status == 0, "the column of texts is recognized as before"
    assert corpus(project, "again")["read"]["columns"] == {"text": "review", "label": "kind"}


@pytest.mark.parametrize(
    ("heading", "options", "columns"),
    [
        ("0,1", ["--text", "0", "--label", "1"], {"text": "0", "label": "1"}),
        ("x,y", ["--text", "0", "--label", "1"], {"text": 0, "label": 1}),
        ("text, label", [], {"text": "text", "label": "label"}),
        ("a , b", ["--text", "a", "--label", "b"], {"text": "a", "label": "b"}),
    ],
)
def test_a_column_is_named_by_its_heading_or_else_by_its_number(
    heading: str, options: list[str], columns: dict[str, str | int], project, seqline
) -> None:
    (project / "mine.csv").write_text(f"{heading}\na b c,d\nb c d,e\n")
    result = seqline(project, "add", "corpus", "mine.csv", *options)
    assert (result.status, result.err) == (0, "")
    assert corpus(project, "mine")["read"]["columns"] == columns
    rows = 2 if isinstance(columns["text"], str) else 3
    assert f"{rows} labelled texts" in result.out


def test_a_digit_that_is_no_number_is_refused_as_a_column(project, seqline) -> None:
    (project / "mine.csv").write_text("text,label\na b c,d\n")
    result = seqline(project, "add", "corpus", "mine.csv", "--text", "\u00b2")
    assert result.status == 2
    assert result.err == "seqline: --text: got \u00b2; expected one of the columns text, label.\n"
