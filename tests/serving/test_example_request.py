"""The request that `seqline serve` prints."""

import shlex
from pathlib import Path

import pytest

from pipeline.core import config
from pipeline.scoring import tasks
from pipeline.serving import example_request
from pipeline.serving.request_body import read_json

URL = "http://127.0.0.1:5001/invocations"


def request(root: Path, version: str) -> list[str]:
    """The texts that the server reads of the command, as a shell passes it on."""
    program, url, option, header, data, body = shlex.split(example_request.curl(root, version, URL))
    assert (program, url) == ("curl", URL)
    assert (option, header, data) == ("-H", "Content-Type: application/json", "-d")
    return list(read_json(body.encode()).texts)


@pytest.mark.parametrize("reference", ["", "@champion", "/3"])
def test_a_translator_is_asked_the_first_sample_of_its_corpus(
    reference: str, project: Path
) -> None:
    texts = request(project, f"translation-toy_en_fr{reference}")
    assert texts == ["the small white cat sleeps in the garden ."]


def test_a_blank_filler_is_asked_a_text_with_a_blank(project: Path) -> None:
    [text] = request(project, "fill_blank-toy_reviewers")
    assert text == "the plot was ___ but the acting was brilliant ."
    [text] = request(project, "masked_language_model-toy_story")
    assert "___" in text, "the corpus has no such sample"


def test_quotes_of_a_text_reach_the_server(project: Path, edited) -> None:
    text = """it's "so" good\\ $HOME `ls` !"""
    edited(project, "corpora.toy_reviews.samples", [{"prompt": text, "reference": None}])
    assert request(project, "classification-toy_reviews") == [text]


@pytest.mark.parametrize("task", config.module_names("pipeline.scoring.tasks"))
def test_without_a_corpus_the_example_of_the_task_is_sent(task: str, project: Path) -> None:
    assert request(project, f"{task}-removed") == [tasks.interface(task).example]
