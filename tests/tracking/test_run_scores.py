"""The scores of a run that MLflow's table shows, and which of them ranks."""

from typing import Any

import pytest

from pipeline.tracking import run_scores


def metrics_with(*keys: str, splits: tuple[str, ...] = ("test", "valid")) -> dict[str, Any]:
    """As the evaluate stage writes them: an estimate for each key, with another value each."""
    return {
        split: {
            key: {"score": 10.0 * number + place, "low": 0.0, "high": 99.0, "signature": "s"}
            for number, key in enumerate(keys)
        }
        | {"rows": 1000}
        for place, split in enumerate(splits)
    }


@pytest.mark.parametrize(
    ("lowercase", "ranked_by", "expected"),
    [(False, None, "bleu"), (True, None, "bleu_lowercase"), (False, "chrf", "chrf")],
)
def test_the_score_is_the_one_that_ranks(
    lowercase: bool, ranked_by: str | None, expected: str
) -> None:
    """BLEU of the corpus's case, or chrF where references are too short for BLEU."""
    metrics = metrics_with("bleu", "bleu_lowercase", "chrf")
    if ranked_by:
        metrics["ranked_by"] = ranked_by
    scoring = run_scores.scoring_of("translation", {"text": {"lowercase": lowercase}})
    assert scoring is not None
    main = run_scores.main_key(metrics, scoring)
    assert main == expected
    assert run_scores.main_title(main, scoring) == ("chrF" if ranked_by else scoring.main_title)
    logged = run_scores.metrics_of(metrics, main)
    assert logged["score"] == logged[f"test/{expected}"] == metrics["test"][expected]["score"]
    assert logged["valid_score"] == metrics["valid"][expected]["score"]


def test_a_validation_score_is_no_test_score() -> None:
    """With `evaluation.test: false` there is no score by which tested runs are ranked."""
    metrics = metrics_with("perplexity", splits=("valid",))
    scoring = run_scores.scoring_of("language_model", {})
    logged = run_scores.metrics_of(metrics, run_scores.main_key(metrics, scoring))
    assert logged == {"valid_score": 0.0, "valid/perplexity": 0.0}
    assert run_scores.score_line(metrics, scoring) == run_scores.NONE


def test_bounds_counts_and_single_sentences_are_no_metrics() -> None:
    metrics = metrics_with("bleu") | {"d2l_bleu": {"1": 0.5, "mean": 0.5}, "best_step": 7}
    logged = run_scores.metrics_of(metrics, "bleu")
    assert set(logged) == {"score", "valid_score", "test/bleu", "valid/bleu"}
    # MLflow's pages sort columns by name: the score comes before the details of a split.
    assert sorted(logged)[0] == "score"


def test_the_score_line_has_the_name_and_the_interval() -> None:
    metrics = {"test": {"accuracy": {"score": 95.0, "low": 94.0, "high": 96.0}}}
    scoring = run_scores.scoring_of("classification", {"text": None})
    assert run_scores.score_line(metrics, scoring) == "accuracy 95.00 [94.00, 96.00]"


def test_a_task_without_scores_has_no_score() -> None:
    assert run_scores.scoring_of("no_task", {}) is None
    assert run_scores.main_key({}, None) == ""
    assert run_scores.metrics_of({"test": {"x": {"score": 1}}}, "") == {"test/x": 1.0}
