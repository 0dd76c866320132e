"""`seqline check` reports every mistake at once, in a line each, and finds files that are not
there."""

import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.cli import validate_params
from pipeline.core.errors import UserError

TABLE = {
    "format": "csv",
    "source": {"path": "mine"},
    "read": {
        "files": {"all": ["a.csv"]},
        "columns": {"text": "review", "label": "stars"},
        "separator": ",",
    },
    "limit": None,
    "split": {"method": "hash", "valid": 0.1, "test": 0.1},
    "text": {"level": "word", "lowercase": True, "letters_only": False, "max_tokens": None},
    "vocab": {"corpus": "mine", "size": None, "min_count": 1, "share": True},
    "samples": [],
}


@pytest.fixture
def with_corpus(project: Path, edited: Any) -> Path:
    """The project with a corpus of the user's own, whose file is there."""
    (project / "mine").mkdir()
    (project / "mine" / "a.csv").write_text("review,stars\nfine,5\n")
    edited(project, "corpora.mine", TABLE)
    return project


def test_a_corpus_of_one_s_own_is_in_order(with_corpus, seqline) -> None:
    result = seqline(with_corpus, "check")
    assert (result.status, result.err) == (0, "")
    assert result.out.startswith("params.yaml: 5 corpora, ")


def test_all_mistakes_of_a_block_are_reported_at_once(with_corpus, seqline, edited) -> None:
    block = yaml.safe_load(yaml.safe_dump(TABLE))
    block["read"]["columns"] = {"text": "review", "lable": "stars"}
    block["read"]["separator"] = 3
    block["split"]["valid"] = "many"
    block["split"]["shuffle"] = True
    block["text"]["level"] = "words"
    del block["text"]["lowercase"]
    block["vocab"]["min_count"] = 0
    block["source"] = {"path": "mine", "url": "x"}
    edited(with_corpus, "corpora.mine", block)
    result = seqline(with_corpus, "check")
    assert (result.status, result.out) == (2, "")
    assert [line.partition(": got ")[0] for line in result.err.splitlines()] == [
        "seqline: corpora.mine.read.separator",
        "seqline: corpora.mine.split.shuffle",
        "seqline: corpora.mine.split.valid",
        "seqline: corpora.mine.text.level",
        "seqline: corpora.mine.text.lowercase",
        "seqline: corpora.mine.vocab.min_count",
        "seqline: corpora.mine.source",
    ]
    block = TABLE | {"read": TABLE["read"] | {"columns": {"text": "review", "lable": "stars"}}}
    edited(with_corpus, "corpora.mine", block)
    result = seqline(with_corpus, "check")
    assert result.err.startswith("seqline: corpora.mine.read.columns: got text, lable; expected ")


def test_mistakes_of_settings_corpora_and_other_sections_come_together(
    project, seqline, edited
) -> None:
    edited(project, "compute.slots", 0)
    edited(project, "corpora.toy_story.limit", -1)
    edited(project, "corpora.toy_reviews.text.level", "syllable")
    edited(project, "settings.lstm.model.hidden", "big")
    edited(project, "settings.lstm.optim.name", "atom")
    edited(project, "settings.mlp.model.layer", 1)
    result = seqline(project, "check")
    assert result.status == 2
    assert [line.partition(": got ")[0] for line in result.err.splitlines()] == [
        "seqline: compute.slots",
        "seqline: corpora.toy_story.limit",
        "seqline: corpora.toy_reviews.text.level",
        "seqline: settings.lstm.model.hidden",
        "seqline: settings.lstm.optim.name",
        "seqline: settings.mlp.model.layer",
    ]


def test_a_mistake_that_all_seeds_share_is_reported_once(project, seqline, edited) -> None:
    for seed in (1, 2, 3):
        edited(project, f"runs.lstm-{seed}.family", "text_cnn")
    result = seqline(project, "check")
    assert result.status == 2
    assert result.err.count("\n") == 1
    assert result.err.startswith("seqline: runs.lstm-1.family: got text_cnn; expected one of ")
    assert "recurrent_lm" in result.err
    assert "for language_model" in result.err


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            {"source": {"path": "nowhere"}},
            "source.path: got nowhere; expected a file or folder, seen from the project's root.",
        ),
        (
            {"read": TABLE["read"] | {"files": {"train": ["a.csv"], "test": ["b.csv"]}}},
            (
                "read.files.test[0]: got b.csv, which the source lacks; expected one of a.csv. Did "
                "you mean 'a.csv'?"
            ),
        ),
        (
            {
                "source": {
                    "files": [
                        {"name": "b.csv", "sha256": None, "bytes": None, "urls": ["https://a/b"]}
                    ]
                }
            },
            "read.files.all[0]: got a.csv, which the source lacks; expected one of b.csv.",
        ),
    ],
)
def test_files_that_are_not_there_are_found(
    change: dict[str, Any], line: str, with_corpus, seqline, edited
) -> None:
    edited(with_corpus, "corpora.mine", TABLE | change)
    result = seqline(with_corpus, "check")
    assert result.status == 2
    assert result.err.startswith(f"seqline: corpora.mine.{line}")
    assert result.err.count("\n") == 1
    # A preset is put in place before its data.
    validate_params.check(with_corpus / "params.yaml")


def test_files_in_a_zip_are_found(with_corpus, seqline, edited) -> None:
    with zipfile.ZipFile(with_corpus / "mine.zip", "w") as archive:
        archive.writestr("folder/a.csv", "x")
        archive.writestr("b.csv", "x")
    edited(with_corpus, "corpora.mine.source.path", "mine.zip")
    result = seqline(with_corpus, "check")
    assert (
        "corpora.mine.read.files.all[0]: got a.csv, which the source lacks; expected one of "
        in (result.err)
    )
    edited(with_corpus, "corpora.mine.read.files.all", ["folder/a.csv", "b.csv"])
    assert seqline(with_corpus, "check").status == 0


def test_the_lines_of_an_error_stay_apart_and_printable() -> None:
    error = UserError("a\nb", "c\x1b")
    assert error.lines == ("a\\nb", "c\\x1b")
    assert str(error) == "a\\nb\nc\\x1b"
