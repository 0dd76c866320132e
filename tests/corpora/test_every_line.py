"""Every line as a row, from the reader to the encoded table."""

from pathlib import Path

import pytest
import stage_runs
import yaml

from pipeline.core import tables
from pipeline.corpora import every_line
from pipeline.corpora.every_line import Config

ROOT = Path(__file__).resolve().parents[2]
LINES = ["", "= A =", " ", "one two", "three", "", "four"]


def test_blank_lines_are_rows_and_separate_paragraphs(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n".join(LINES) + "\n", encoding="utf-8")
    (tmp_path / "b.txt").write_text("five\n", encoding="utf-8")
    config = Config(files={"train": ("a.txt", "b.txt")})
    rows = [
        row
        for split, batch in every_line.read(tmp_path, config)
        for row in batch.to_pylist()
        if split == "train"
    ]
    assert [row["text"] for row in rows] == [*LINES, "five"]
    assert [row["paragraph"] for row in rows] == [0, 0, 0, 1, 1, 1, 2, 3]
    assert {row["reject"] for row in rows} == {None}


@pytest.mark.parametrize(("form", "kept"), [("every_line", LINES), ("text_lines", None)])
def test_only_this_format_encodes_blank_lines(
    form: str, kept: list[str] | None, tmp_path: Path
) -> None:
    content = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    files = {name: [f"{name}.txt"] for name in ("train", "valid", "test")}
    read = {"files": files} | ({"benchmarks": None} if form == "text_lines" else {})
    content["corpora"] = {
        "lines": content["corpora"]["toy_story"]
        | {"format": form, "read": read, "source": {"path": "raw"}}
    }
    content["corpora"]["lines"]["vocab"]["corpus"] = "lines"
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    raw = tmp_path / "data/raw/lines"
    raw.mkdir(parents=True)
    for name in files:
        (raw / f"{name}.txt").write_text("\n".join(LINES) + "\n", encoding="utf-8")
    for stage in ("tokenize", "vocab", "encode"):
        stage_runs.run(tmp_path, stage, "lines")

    encoded = tables.read(tmp_path / "data/encoded/lines/test.parquet", tables.ENCODED_TEXT)
    lengths = [len(ids) for ids in encoded["ids"].to_pylist()]
    expected = [len(line.split()) for line in kept or [line for line in LINES if line.strip()]]
    assert lengths == expected
