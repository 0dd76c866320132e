"""Runs that are scored on different masked words: ranked together, and never tested against each
other."""

import json
from pathlib import Path

import default_params
import numpy as np
import pyarrow as pa
import pytest
import synthetic_runs

from pipeline.core import tables
from pipeline.report import results, setting_tests

PAIRS = 60
# by run: the masks that it was scored on, and its nats per word
RUNS = {"bert": (1, 2.0), "bert_2": (1, 2.5), "bert_3": (2, 3.0), "bert_4": (2, 3.1)}


@pytest.fixture
def group(tmp_path: Path, request: pytest.FixtureRequest) -> results.Group:
    """The group of the runs named by the parameter."""
    names: list[str] = request.param
    runs = {name: synthetic_runs._block("masked_language_model", "story", name) for name in names}
    params = {
        "evaluation": {"bootstrap": 200, "confidence": 0.95, "seed": 1, "test": True},
        "corpora": {"story": synthetic_runs.corpus()},
        "runs": runs,
    }
    default_params.write(tmp_path, params)
    (tmp_path / "metrics").mkdir()
    for name in names:
        masks, nats = RUNS[name]
        write_scores(tmp_path / "scores" / name, masks, nats)
        estimate = {"score": float(np.exp(nats)), "low": 1.0, "high": 30.0}
        metrics = {
            "task": "masked_language_model",
            "corpus": "story",
            "parameters": 10,
            "test": {"masked_perplexity": estimate},
        }
        (tmp_path / f"metrics/{name}.json").write_text(json.dumps(metrics))
    [found] = results.groups(tmp_path / "params.yaml", tmp_path / "metrics", tmp_path / "scores")
    return found


def write_scores(folder: Path, masks: int, nats: float) -> None:
    """Scores of pairs that every run was scored on, with as many masked words for each run."""
    rng = np.random.default_rng(round(1000 * nats))
    columns = {
        "row": np.arange(PAIRS),
        "block": np.arange(PAIRS),
        "length": np.full(PAIRS, 12),
        "nats": 2 * nats + rng.normal(0, 0.1, PAIRS),
        "count": np.full(PAIRS, 2),
        "correct": np.ones(PAIRS),
        "pair_nats": np.full(PAIRS, 0.5),
        "pair_correct": np.ones(PAIRS, bool),
        "masks": 1000 * masks + np.arange(PAIRS),
        "tokens": np.full(PAIRS, 6),
        "unknown": np.zeros(PAIRS),
    }
    folder.mkdir(parents=True)
    arrays = [pa.array(columns[field.name]).cast(field.type) for field in tables.SCORES_MASKED]
    tables.write(folder / "test.parquet", pa.table(arrays, schema=tables.SCORES_MASKED))


@pytest.mark.parametrize("group", [list(RUNS)], indirect=True)
def test_runs_of_different_masks_have_no_test_and_a_note(group: results.Group) -> None:
    assert [result.name for result in group.results] == list(RUNS)
    assert [(pair.first, pair.second) for pair in group.model_pairs] == [
        ("bert", "bert_2"),
        ("bert_3", "bert_4"),
    ]
    assert all(pair.corrected < 0.05 for pair in group.model_pairs)
    assert group.notes == [
        "no test compares `bert`, `bert_2` and `bert_3`, `bert_4` with each other: different words "
        "were masked for each of them, because objective.max_length or the vocabulary differs"
    ]
    assert len(setting_tests.model_tests(group)) == 3


@pytest.mark.parametrize("group", [["bert", "bert_2"]], indirect=True)
def test_runs_of_the_same_masks_are_tested_without_a_note(group: results.Group) -> None:
    assert len(group.model_pairs) == 1
    assert group.notes == []


@pytest.mark.parametrize("group", [["bert", "bert_3"]], indirect=True)
def test_a_pair_of_different_masks_leaves_no_test_at_all(group: results.Group) -> None:
    assert (group.pairs, group.model_pairs) == ((), ())
    assert setting_tests.model_tests(group) == []
    assert len(group.notes) == 1
