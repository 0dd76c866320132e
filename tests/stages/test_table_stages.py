"""Tables of the user's own through the stages as DVC runs them: rejects have their reasons, and a
table that cannot be read is refused in one line."""

import json
import zipfile
from pathlib import Path
from typing import Any

import fast_yaml
import pyarrow.parquet as pq
import pytest
import stage_runs

from pipeline.core.errors import UserError

ROWS = [
    (f"a {word} dog {number}", f"un {word} chien {number}")
    for word in "xyz"
    for number in range(30)
]
BLOCK: dict[str, Any] = {
    "format": "csv",
    "source": {"path": "own"},
    "read": {
        "files": {"all": ["pairs.csv"]},
        "columns": {"source": "en", "target": "fr"},
        "separator": ",",
    },
    "limit": None,
    "split": {"method": "hash", "valid": 0.2, "test": 0.2},
    "text": {"level": "word", "lowercase": True, "letters_only": False, "max_tokens": None},
    "vocab": {"corpus": "own", "size": None, "min_count": 1, "share": False},
    "samples": [],
}


def project(root: Path, **changes: Any) -> Path:
    content = {"compute": stage_runs.HERE, "corpora": {"own": BLOCK | changes}}
    (root / "params.yaml").write_text(fast_yaml.dump(content))
    (root / "own").mkdir()
    return root


def tokenized(root: Path) -> dict[str, Any]:
    for stage in ("download", "tokenize", "vocab", "encode"):
        stage_runs.run(root, stage, "own")
    counts: dict[str, Any] = json.loads((root / "reports/corpora/own.json").read_text())["splits"]
    return counts


def table(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in ["en,fr", *(f"{en},{fr}" for en, fr in ROWS), *lines])


def test_bad_rows_are_rejects_with_their_reasons_and_all_others_rows(tmp_path: Path) -> None:
    root = project(tmp_path)
    bad = ["one", "a,b,c", '"never closed,x', "only english,", "", " , "]
    (root / "own" / "pairs.csv").write_text(table(bad))
    counts = tokenized(root)
    assert sum(split["rows"] for split in counts.values()) == len(ROWS)
    rejects = pq.read_table(root / "data/tokens/own/rejects.parquet").to_pylist()
    assert sorted((row["reason"], row["text"]) for row in rejects) == sorted(
        [
            ("columns: 1, expected 2", "one\t"),
            ("columns: 3, expected 2", "a,b,c\t"),
            ("a misplaced quotation mark, or a cell that does not end", '"never closed,x\t'),
            ("target is empty", "only english\t"),
        ]
    )


def test_files_of_a_zip_are_the_splits_of_a_corpus(tmp_path: Path) -> None:
    files = {split: [f"mine/{split}.csv"] for split in ("train", "valid", "test")}
    root = project(
        tmp_path,
        source={"path": "own/mine.zip"},
        read=BLOCK["read"] | {"files": files},
        split="official",
    )
    with zipfile.ZipFile(root / "own" / "mine.zip", "w") as archive:
        for [name] in files.values():
            archive.writestr(name, table([]))
        archive.writestr("README", "by hand")
    counts = tokenized(root)
    assert {name: split["rows"] for name, split in counts.items()} == dict.fromkeys(files, 90)
    manifest = json.loads((root / "data/raw/own/manifest.json").read_text())
    assert {file["source"] for file in manifest["files"]} == {"path:own/mine.zip"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"en,de\na,b\n", "pairs.csv: got the columns en, de; expected one called fr. Correct `re"),
        (b"en,fr\ncaf\xe9,b\n", "pairs.csv: got byte 0xe9 at offset 9, line 2; expected UTF-8."),
        (b"", "pairs.csv: got an empty file; expected at least one line."),
        (
            b"en,fr\na\nb\na\n",
            "Read more rows. Most are rejected for: columns: 1, expected 2.",
        ),
        (b"en,fr\n", "pairs.csv: got no row; expected one row at least, below the heading."),
    ],
)
def test_a_table_that_cannot_be_read_is_refused_in_one_line(
    content: bytes, said: str, tmp_path: Path
) -> None:
    root = project(tmp_path)
    (root / "own" / "pairs.csv").write_bytes(content)
    with pytest.raises(UserError) as caught:
        tokenized(root)
    assert said in str(caught.value)
    assert len(caught.value.lines) == 1
    assert not (root / "data/tokens/own").exists()
