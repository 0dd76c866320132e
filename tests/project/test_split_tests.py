"""Tests of settings on another split: on `test` those of the report, elsewhere of that split's
scores."""

import json
import sys
from pathlib import Path

import pytest
import stage_runs
import synthetic_runs

from benchmarks import split_tests
from pipeline.report import results

WRONG = {"good-1": 0.1, "good-2": 0.14, "bad-1": 0.4, "bad-2": 0.45}


@pytest.fixture
def evaluated(tmp_path: Path) -> Path:
    project = synthetic_runs.project(tmp_path, WRONG, {}, rows=60)
    for name in WRONG:
        stage_runs.run(project, "evaluate", name)
    return project


def test_on_test_they_are_those_of_the_report(evaluated: Path) -> None:
    paths = [evaluated / name for name in ("params.yaml", "reports/metrics", "data/scores")]
    [group] = results.groups(*paths)
    assert split_tests.tests(evaluated, "test", ["good", "bad"]) == list(group.pairs)


def test_elsewhere_they_are_of_that_splits_scores(
    evaluated: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bleu = {
        name: json.loads((evaluated / f"reports/metrics/{name}.json").read_text())["test_long"][
            "bleu"
        ]["score"]
        for name in WRONG
    }
    [pair] = split_tests.tests(evaluated, "test_long", ["good", "bad"])
    want = (bleu["good-1"] + bleu["good-2"] - bleu["bad-1"] - bleu["bad-2"]) / 2
    assert pair.difference == pytest.approx(want, abs=1e-4)

    monkeypatch.chdir(evaluated)
    monkeypatch.setattr(sys, "argv", ["split_tests", "test_long", "good", "bad"])
    split_tests.main()
    assert f"| `good` – `bad` | {want:+.2f} | " in capsys.readouterr().out
