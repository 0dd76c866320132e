"""Corpora without text: the stages copy their rows, and refuse settings of texts."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import stage_runs
import yaml

from pipeline.cli import validate_params
from pipeline.core import tables
from pipeline.core.errors import UserError
from pipeline.text import batches
from pipeline.text.encode import describe

ROOT = Path(__file__).resolve().parents[2]
FILES = {name: [f"{name}.txt"] for name in ("train", "valid", "test")}
VALUES = {"train": range(12), "valid": range(12, 17), "test": range(17, 24)}


def write_project(root: Path, **changes: Any) -> None:
    """params.yaml with the corpus `steps`, a series of whole numbers, and its raw files."""
    content = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    block = content["corpora"]["toy_story"] | {
        "format": "series_lines",
        "read": {"files": FILES, "history": 4},
        "source": {"path": "raw"},
        "text": None,
        "vocab": {"corpus": "steps"},
        "samples": [],
    }
    content["corpora"]["steps"] = block | changes
    (root / "params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    raw = root / "data/raw/steps"
    raw.mkdir(parents=True)
    for name, values in VALUES.items():
        text = "".join(f"{value}\n" for value in values)
        (raw / f"{name}.txt").write_text(text, encoding="utf-8")


def run_stages(root: Path) -> None:
    for stage in ("tokenize", "vocab", "encode"):
        stage_runs.run(root, stage, "steps")


def test_stages_copy_the_rows_of_a_series(tmp_path: Path) -> None:
    write_project(tmp_path)
    run_stages(tmp_path)
    for split, values in VALUES.items():
        encoded = tables.read(tmp_path / f"data/encoded/steps/{split}.parquet", tables.NUMBERS)
        tokens = tables.read(tmp_path / f"data/tokens/steps/{split}.parquet", tables.NUMBERS)
        assert encoded.equals(tokens)
        expected = [float(value) for value in values if value >= 4]
        assert encoded["value"].to_pylist() == expected
        # The history of a split's first row is in the split before.
        assert encoded["inputs"].to_pylist() == [[v - 4, v - 3, v - 2, v - 1] for v in expected]

    vocab = describe(tmp_path / "data/vocab/steps")
    assert (vocab.level, vocab.sides, vocab.sizes) == (None, (), {})
    metrics = json.loads((tmp_path / "reports/corpora/steps.json").read_text(encoding="utf-8"))
    assert metrics["splits"]["test"] == {
        "rows": 7,
        "rejected": {},
        "duplicates": 0,
        "rows_also_in_train": 0,
    }


def test_a_contiguous_split_cuts_a_series_in_its_order(tmp_path: Path) -> None:
    files = {"all": [name for names in FILES.values() for name in names]}
    write_project(
        tmp_path,
        read={"files": files, "history": 4},
        split={"method": "contiguous", "valid": 0.25, "test": 0.25},
    )
    run_stages(tmp_path)
    values = [
        tables.read(tmp_path / f"data/encoded/steps/{split}.parquet", tables.NUMBERS)["value"]
        for split in ("train", "valid", "test")
    ]
    assert [value for part in values for value in part.to_pylist()] == list(range(4, 24))
    assert [len(part) for part in values] == [10, 5, 5]


def test_labels_of_rows_without_text_become_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    schema = pa.schema({"row": pa.int64(), "image": pa.binary(), "label": pa.string()})
    monkeypatch.setitem(tables.TOKENS, "pictures", schema)
    rows = pa.record_batch([[0, 1], [b"\0\1", b"\2\3"], ["b", "a"]], schema=schema)
    names = pa.array(["a", "b"])
    encoded, counts = batches.encode((Path("x"), rows), "pictures", {}, names)
    assert encoded.schema == batches.schemas("pictures")[1]
    assert encoded.to_pylist() == [
        {"row": 0, "image": b"\0\1", "label": 1},
        {"row": 1, "image": b"\2\3", "label": 0},
    ]
    assert counts == {"rows": 2}


WORD = {"level": "word", "lowercase": False, "letters_only": False, "max_tokens": None}


@pytest.mark.parametrize(
    ("corpus", "key", "value", "line"),
    [
        (
            "steps",
            "text",
            WORD,
            "corpora.steps.text: got a section; expected null: the corpus has no text. "
            "Set it to null.",
        ),
        (
            "steps",
            "vocab",
            {"corpus": "steps", "size": None},
            "corpora.steps.vocab.size: got an unknown key; expected one of corpus. Remove it.",
        ),
        (
            "toy_story",
            "text",
            None,
            "corpora.toy_story.text: got None; expected a section with the keys level, "
            "lowercase, letters_only, max_tokens.",
        ),
    ],
)
def test_check_refuses_text_settings_where_there_is_no_text_and_their_absence_elsewhere(
    corpus: str, key: str, value: Any, line: str, tmp_path: Path
) -> None:
    write_project(tmp_path)
    content = yaml.safe_load((tmp_path / "params.yaml").read_text(encoding="utf-8"))
    content["corpora"][corpus][key] = value
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    shutil.copy(ROOT / "flow.yaml", tmp_path)
    with pytest.raises(UserError) as error:
        validate_params.check(tmp_path / "params.yaml")
    assert str(error.value) == line


def test_a_series_shorter_than_its_history_is_refused(tmp_path: Path) -> None:
    write_project(tmp_path, read={"files": FILES, "history": 24})
    with pytest.raises(UserError) as error:
        stage_runs.run(tmp_path, "tokenize", "steps")
    assert str(error.value) == (
        "read.history: got 24 for a series of 24 values; expected less than 24. "
        "Set a shorter history, or read more values."
    )


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("1 2", "line 3: got 2 numbers; expected 1, as the first line has"),
        ("x", "line 3: got x; expected a finite number"),
        ("nan", "line 3: got nan; expected a finite number"),
        ("", "line 3: got 0 numbers; expected 1, as the first line has"),
    ],
)
def test_a_line_that_is_no_number_is_refused(line: str, problem: str, tmp_path: Path) -> None:
    write_project(tmp_path)
    path = tmp_path / "data/raw/steps/valid.txt"
    path.write_text(f"1\n2\n{line}\n4\n", encoding="utf-8")
    with pytest.raises(UserError) as error:
        stage_runs.run(tmp_path, "tokenize", "steps")
    assert str(error.value).endswith(f"valid.txt: {problem}. Correct or remove the line.")
