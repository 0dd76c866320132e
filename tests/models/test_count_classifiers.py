"""Classifiers that count n-grams: scikit-learn's naive Bayes and the equations of NBSVM as oracles,
calibration, padding, learning."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB
from sklearn.svm import LinearSVC

from pipeline.contracts import PAD, Refitted, Sizes
from pipeline.core import tables
from pipeline.core.errors import UserError
from pipeline.nn.ngram_index import NgramIndex, unique_occurrences
from pipeline.nn.ngram_linear import fitted_scale, nats
from pipeline.tasks import classification
from pipeline.text.token_budget import Ragged
from pipeline.training import checkpoint

CPU = torch.device("cpu")
BAYES = {"ngrams": 2, "counts": "all", "alpha": 0.5, "calibrate": False}
NBSVM = {
    "ngrams": 2, "counts": "once", "alpha": 1.0, "classifier": "svm", "C": 1.0, "beta": 0.25,
    "calibrate": False, "refit": False,
}  # fmt: skip
FAMILIES: dict[str, dict[str, Any]] = {"naive_bayes": BAYES, "nbsvm": NBSVM}


def texts(rows: list[list[int]], labels: list[int]) -> pa.Table:
    return pa.table(
        {"row": range(len(rows)), "ids": rows, "label": labels}, schema=tables.ENCODED_LABELLED
    )


def random_texts(count: int, seed: int, labels: int = 2) -> pa.Table:
    """Texts of 1 to 12 words of 16, which depend on the label; each label occurs."""
    rng = np.random.default_rng(seed)
    label_N = np.arange(count) % labels
    rows = []
    for label in label_N:
        share_V = 1.0 + 4 * (np.arange(16) % labels == label)
        rows.append(rng.choice(np.arange(4, 20), rng.integers(1, 13), p=share_V / share_V.sum()))
    return texts([row.tolist() for row in rows], label_N.tolist())


def fitted(family: str, train: pa.Table, labels: int = 2, **changes: Any) -> Any:
    model: Any = checkpoint.build(
        family, FAMILIES[family] | changes, Sizes(20, labels, False), "settings.x.model"
    )
    model.fit(train, train, 1)
    return model.eval()


def log_probs(model: Any, table: pa.Table) -> Any:
    return classification.log_probs(model, table["ids"], None, CPU)


def counted(train: pa.Table, test: pa.Table, ngrams: int, binary: bool) -> tuple[Any, Any]:
    """scikit-learn's matrices of counts."""
    vectorizer = CountVectorizer(
        analyzer="word", token_pattern=r"\S+", ngram_range=(1, ngrams), binary=binary
    )
    train_texts, test_texts = (
        [" ".join(map(str, row)) for row in table["ids"].to_pylist()] for table in (train, test)
    )
    return vectorizer.fit_transform(train_texts), vectorizer.transform(test_texts)


@given(st.lists(st.lists(st.integers(4, 7), max_size=6), min_size=1, max_size=6), st.integers(1, 4))
def test_numbers_of_n_grams_are_those_of_a_dictionary(rows: list[list[int]], orders: int) -> None:
    index = NgramIndex(orders, 8)
    column = pa.chunked_array([pa.array(rows, pa.list_(pa.int32()))])
    row_P, feature_P = index.fit(Ragged(column))

    found: dict[int, tuple[int, ...]] = {}
    for number, row in enumerate(rows):
        ids = torch.tensor([[*row, PAD, PAD]])
        ngrams = [
            tuple(ids[0, start : start + order].tolist())
            for order in range(1, min(orders, len(row) + 2) + 1)
            for start in range(len(row) + 3 - order)
        ]
        features = index(ids)[0].tolist()
        assert len(features) == len(ngrams)
        for ngram, feature in zip(ngrams, features, strict=True):
            assert (feature == len(index)) == (PAD in ngram)
            if PAD not in ngram:
                assert found.setdefault(feature, ngram) == ngram
        known = sorted(feature for feature in features if feature < len(index))
        assert known == sorted(feature_P[row_P == number].tolist())
    assert sorted(found) == list(range(len(index)))
    assert len(set(found.values())) == len(index)

    once = unique_occurrences(index.fit(Ragged(column)), max(len(index), 1))
    assert sorted(zip(*once, strict=True)) == sorted(
        {(int(row), int(feature)) for row, feature in zip(row_P, feature_P, strict=True)}
    )


@pytest.mark.parametrize("labels", [2, 3])
@pytest.mark.parametrize("counts", ["all", "once"])
@pytest.mark.parametrize("ngrams", [1, 3])
def test_naive_bayes_is_scikit_learns(ngrams: int, counts: str, labels: int) -> None:
    train, test = random_texts(90, 1, labels), random_texts(40, 2, labels)
    model = fitted("naive_bayes", train, labels, ngrams=ngrams, counts=counts)
    train_NF, test_NF = counted(train, test, ngrams, counts == "once")
    oracle = MultinomialNB(alpha=0.5).fit(train_NF, train["label"].to_numpy())
    np.testing.assert_allclose(
        log_probs(model, test), oracle.predict_log_proba(test_NF), atol=1e-4, rtol=1e-5
    )


@pytest.mark.parametrize("classifier", ["svm", "logistic"])
def test_nbsvm_is_the_papers_equations(classifier: str) -> None:
    train, test = random_texts(90, 1), random_texts(40, 2)
    model = fitted("nbsvm", train, classifier=classifier, C=0.5)
    train_NF, test_NF = (matrix.toarray() for matrix in counted(train, test, 2, True))
    label_N = 2 * train["label"].to_numpy() - 1

    p_F = 1.0 + train_NF[label_N == 1].sum(0)
    q_F = 1.0 + train_NF[label_N == -1].sum(0)
    ratio_F = np.log((p_F / p_F.sum()) / (q_F / q_F.sum()))
    linear = (
        LinearSVC(C=0.5, dual=False, tol=1e-8)
        if classifier == "svm"
        else LogisticRegression(C=0.5, solver="liblinear", tol=1e-8)
    ).fit(train_NF * ratio_F, label_N)
    own_F = linear.coef_[0]
    weight_F = 0.75 * np.abs(own_F).sum() / len(own_F) + 0.25 * own_F
    score_N = (test_NF * ratio_F) @ weight_F + linear.intercept_[0]

    expected_NC = log_softmax(np.stack([np.zeros(40), score_N], 1), 1)
    np.testing.assert_allclose(log_probs(model, test), expected_NC, atol=2e-3)


def test_nbsvm_of_three_labels_is_one_classifier_against_the_rest_for_each() -> None:
    train, test = random_texts(90, 1, 3), random_texts(40, 2, 3)
    scores_NC = []
    for label in range(3):
        is_label = (train["label"].to_numpy() == label).astype(int).tolist()
        binary = fitted("nbsvm", texts(train["ids"].to_pylist(), is_label))
        both_NC = log_probs(binary, test)
        scores_NC.append(both_NC[:, 1] - both_NC[:, 0])
    expected_NC = log_softmax(np.stack(scores_NC, 1), 1)
    found_NC = log_probs(fitted("nbsvm", train, 3), test)
    np.testing.assert_allclose(found_NC, expected_NC, atol=2e-3)


def negated(count: int, seed: int) -> pa.Table:
    """`good` (8) and `bad` (9), each after `not` (4) or `so` (5), among three other words."""
    rng = np.random.default_rng(seed)
    rows = []
    labels = []
    for _ in range(count):
        adverb, adjective = int(rng.integers(4, 6)), int(rng.integers(8, 10))
        filler = rng.integers(10, 13, 3).tolist()
        other = [9 - adverb, 17 - adjective]  # the other words, apart
        rows.append([*filler[:1], adverb, adjective, *filler[1:2], other[1], filler[2], other[0]])
        labels.append(int((adverb == 5) == (adjective == 8)))
    return texts(rows, labels)


@pytest.mark.parametrize("family", FAMILIES)
def test_pairs_of_words_are_learnt_and_single_words_say_nothing(family: str) -> None:
    train, test = negated(300, 1), negated(200, 2)
    accuracy = []
    for ngrams in (1, 2):
        model = fitted(family, train, ngrams=ngrams, calibrate=True)
        accuracy.append((log_probs(model, test).argmax(1) == test["label"].to_numpy()).mean())
    assert accuracy[0] < 0.65
    assert accuracy[1] == 1.0


@pytest.mark.parametrize("family", FAMILIES)
def test_validation_metrics_are_those_of_the_task(family: str) -> None:
    train, valid = random_texts(60, 1), random_texts(40, 2)
    model: Any = checkpoint.build(
        family, FAMILIES[family] | {"calibrate": True}, Sizes(20, 2, False), "settings.x.model"
    )
    metrics = model.fit(train, valid, 1)
    config = classification.Config(
        batch_tokens=100, label_smoothing=0.0, balance="none", max_length=None
    )
    loss, expected = classification.Task(train, valid, config, 1, CPU).validate(model)
    assert metrics["loss"] == pytest.approx(float(loss.total) / loss.tokens)
    assert metrics["accuracy"] == pytest.approx(expected["accuracy"])


def test_a_refitted_model_has_read_the_validation_texts_and_keeps_one_that_has_not(
    tmp_path: Path,
) -> None:
    train, valid, test = (random_texts(count, seed) for seed, count in enumerate((60, 40, 30)))

    def model_of(refit: bool) -> Any:
        block = NBSVM | {"calibrate": True, "refit": refit}
        return checkpoint.build("nbsvm", block, Sizes(20, 2, False), "settings.x.model").eval()

    plain, refitted, both = model_of(False), model_of(True), model_of(False)
    assert plain.fit(train, valid, 1) == refitted.fit(train, valid, 1)
    assert isinstance(refitted, Refitted)
    np.testing.assert_array_equal(log_probs(refitted.before_refit(), test), log_probs(plain, test))

    # Its temperature is the first fit's, which has not seen the validation texts' labels.
    both.fit(pa.concat_tables([train, valid]), valid, 1)
    both.linear.scale = plain.linear.scale
    np.testing.assert_array_equal(log_probs(refitted, test), log_probs(both, test))
    assert not np.array_equal(log_probs(refitted, test), log_probs(plain, test))

    run = {"family": "nbsvm", "model": NBSVM | {"refit": True}}
    facts = {"run": run, "sizes": dataclasses.asdict(Sizes(20, 2, False))}
    checkpoint.write_model(tmp_path, refitted, facts)
    loaded: Any = checkpoint.load_model(tmp_path, CPU)
    for table in (valid, test):
        np.testing.assert_array_equal(log_probs(loaded, table), log_probs(refitted, table))
        np.testing.assert_array_equal(
            log_probs(loaded.before_refit(), table), log_probs(plain, table)
        )


def test_calibration_finds_the_likeliest_scale_and_changes_no_label() -> None:
    rng = np.random.default_rng(1)
    logits_NC = rng.normal(size=(200, 3)) * 3
    chances_NC = np.exp(log_softmax(0.4 * logits_NC, 1))
    label_N = np.array([rng.choice(3, p=chances) for chances in chances_NC])
    scale = fitted_scale(logits_NC, label_N)
    assert scale == pytest.approx(0.4, abs=0.1)
    for other in (scale * 0.99, scale * 1.01):
        assert nats(logits_NC * scale, label_N) < nats(logits_NC * other, label_N)

    assert fitted_scale(logits_NC, logits_NC.argmax(1)) == 100.0, "all right: as sure as allowed"
    assert fitted_scale(logits_NC, logits_NC.argmin(1)) == 0.0, "all wrong: not sure at all"


def test_calibrated_probabilities_are_of_more_use_than_naive_bayes_own() -> None:
    train = random_texts(60, 1)
    valid = random_texts(200, 2)
    losses = []
    for calibrate in (False, True):
        model: Any = checkpoint.build(
            "naive_bayes",
            BAYES | {"ngrams": 3, "calibrate": calibrate},
            Sizes(20, 2, False),
            "settings.x.model",
        )
        losses.append(model.fit(train, valid, 1)["loss"])
    assert losses[1] < losses[0]


@pytest.mark.parametrize(
    ("family", "changes", "line"),
    [
        ("naive_bayes", {"ngrams": 0}, "settings.x.model.ngrams: got 0; expected at least 1."),
        ("naive_bayes", {"alpha": 0}, "settings.x.model.alpha: got 0.0; expected above 0"),
        ("nbsvm", {"C": 0}, "settings.x.model.C: got 0.0; expected above 0, such as 1.0."),
        ("nbsvm", {"C": -1.0}, "settings.x.model.C: got -1.0; expected above 0"),
        ("nbsvm", {"alpha": -1.0}, "settings.x.model.alpha: got -1.0; expected above 0"),
        ("nbsvm", {"beta": 1.5}, "settings.x.model.beta: got 1.5; expected a share from 0 to 1"),
        ("nbsvm", {"classifier": "tree"}, "settings.x.model.classifier: got tree; expected one of"),
    ],
)
def test_settings_that_make_no_model_are_refused(
    family: str, changes: dict[str, Any], line: str
) -> None:
    with pytest.raises(UserError) as error:
        checkpoint.build(
            family, FAMILIES[family] | changes, Sizes(20, 2, False), "settings.x.model"
        )
    assert str(error.value).startswith(line)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_label_without_a_training_text_is_refused(family: str) -> None:
    with pytest.raises(UserError, match="got no training text with the label number 1; expected"):
        fitted(family, texts([[5], [6]], [0, 2]), 3)


@pytest.mark.parametrize("family", FAMILIES)
def test_training_texts_without_a_word_are_refused(family: str) -> None:
    with pytest.raises(UserError, match="corpus: got training texts without a word"):
        fitted(family, texts([[], []], [0, 1]))
